"""Detect in what a camera, video or folder shows, on a Triton Inference Server; this side needs no engine and no GPU.

The model is a folder that ``yolo12edge deploy triton`` wrote: its manifest says how a frame becomes the input and how
the outputs are read, so that results are those of the Runtime. It needs ``pip install 'tritonclient[http]'``.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from yolo12edge import Detections, Thresholds, Yolo12EdgeError
from yolo12edge.frame import Frame
from yolo12edge.manifest import Manifest
from yolo12edge.postprocess import Postprocessor
from yolo12edge.preprocess import Preprocessor
from yolo12edge.sources import open_source

TYPES = {"float32": "FP32", "uint8": "UINT8"}


class TritonDetector:
    """One model of a server; the connection is used by one thread.

    Args:
        model: Its folder in the model repository, or a copy of its ``manifest.json`` in a folder of the same name.
        url: Host and HTTP port of the server.
    """

    def __init__(self, model: Path, *, url: str) -> None:
        from tritonclient import http

        self.manifest = Manifest.from_json((model / "manifest.json").read_bytes())
        self.preprocessor = Preprocessor(self.manifest.input)
        self.postprocessor = Postprocessor(self.manifest)
        self._http = http
        self._name = model.resolve().name
        self._client = http.InferenceServerClient(url)

    def __call__(self, frame: Frame, thresholds: Thresholds) -> Detections:
        """Detect in one frame; the batch, if the server makes one, is of several clients."""
        spec = self.manifest.input
        tensor, letterbox = self.preprocessor(frame.image)
        images = self._http.InferInput(spec.name, list(tensor.shape), TYPES[spec.dtype])
        images.set_data_from_numpy(tensor)
        names = [output.name for output in self.manifest.outputs]
        wanted = [self._http.InferRequestedOutput(name) for name in names]
        answer = self._client.infer(self._name, [images], outputs=wanted)
        outputs = {name: answer.as_numpy(name) for name in names}
        return self.postprocessor(outputs, [letterbox], thresholds)[0]


def main() -> None:
    """Print what is found, a line a frame."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, help="folder that 'yolo12edge deploy triton' wrote")
    parser.add_argument("source", help="camera, stream, video or folder")
    parser.add_argument("--url", default="localhost:8000", help="of the server (default: localhost:8000)")
    parser.add_argument("--confidence", type=float, default=0.25, help="lowest confidence (default: 0.25)")
    options = parser.parse_args()
    if not (options.model / "manifest.json").is_file():
        parser.error(f"{options.model} holds no manifest.json")
    try:
        from tritonclient.utils import InferenceServerException
    except ImportError:
        parser.error("tritonclient is not installed: pip install 'tritonclient[http]'")
    thresholds = Thresholds(confidence=options.confidence)
    detector = TritonDetector(options.model, url=options.url)
    spec = detector.manifest.input
    if spec.batch > 1 and spec.min_batch is None:
        parser.error(f"the model takes exactly {spec.batch} images: export it with --min-batch 1")
    with open_source(options.source) as source:
        for frame in source:
            try:
                found = detector(frame, thresholds)
            except (InferenceServerException, OSError) as error:
                print(f"{options.url}: {error}", file=sys.stderr)
                sys.exit(2)
            names = [detector.manifest.class_names[index] for index in found.class_id]
            print(f"frame {frame.index}: {', '.join(names) or 'nothing'}", flush=True)


if __name__ == "__main__":
    try:
        main()
    except Yolo12EdgeError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
