"""From a cold process to the first result: ``python cold_start.py runtime|engine MODEL``, for an ONNX model.

``engine`` does with ONNX Runtime alone what cannot be left out: import it, load the model, run it once. Prints JSON.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from resource import getpagesize

kind, model = sys.argv[1:]
if kind == "engine":
    import numpy as np
    import onnxruntime

    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    spec = session.get_inputs()[0]
    session.run(None, {spec.name: np.zeros(spec.shape, np.float32)})
    print(json.dumps({}))
else:
    sys.path.insert(0, str(Path(__file__).parents[1]))  # this checkout, installed or not
    import numpy as np

    from yolo12edge import Runtime

    frame = np.full((720, 1280, 3), 90, np.uint8)
    with Runtime(model, device="cpu", warmup=0) as runtime:
        runtime(frame)
        status = Path("/proc/self/statm").read_text().split()
        print(json.dumps({"resident_mb": int(status[1]) * getpagesize() / 1e6, "torch": "torch" in sys.modules}))
