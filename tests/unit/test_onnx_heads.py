"""The head of each task, written as ONNX nodes, gives PyTorch's numbers."""

from __future__ import annotations

import numpy as np
import onnxruntime
import pytest
import torch

from yolo12edge.checkpoint import Checkpoint
from yolo12edge.errors import ExportError
from yolo12edge.exporters import onnx_heads
from yolo12edge.exporters.onnx_network import write_network
from yolo12edge.exporters.onnx_writer import GraphWriter
from yolo12edge.manifest import InputSpec
from yolo12edge.nn import deploy_form
from yolo12edge.preprocess import Preprocessor

SIZE = (64, 96)
# Random weights amplify rounding; by role, as what the values are.
ALLOWED = {
    "boxes": 0.02,
    "rotated_boxes": 0.02,
    "keypoints": 0.02,
    "angles": 1e-3,
    "coefficients": 2e-3,
    "prototypes": 2e-3,
    "scores": 2e-4,
    "probabilities": 2e-4,
}
CASES = {
    "segment": ({"task": "segment"}, {"boxes", "scores", "coefficients", "prototypes"}),
    "segment turbo": (
        {"task": "segment", "variant": "turbo"},
        {"boxes", "scores", "coefficients", "prototypes"},
    ),
    "pose": ({"task": "pose"}, {"boxes", "scores", "keypoints"}),
    "pose of two dimensions": ({"task": "pose", "dimensions": 2}, {"boxes", "scores", "keypoints"}),
    "obb": ({"task": "obb"}, {"rotated_boxes", "angles", "scores"}),
    "obb m": ({"task": "obb", "scale": "m"}, {"rotated_boxes", "angles", "scores"}),
    "classify": ({"task": "classify"}, {"probabilities"}),
    "classify turbo": ({"task": "classify", "variant": "turbo"}, {"probabilities"}),
    "classify with many labels": ({"task": "classify", "multi_label": True}, {"probabilities"}),
}


def written(checkpoint, frame):
    """Return the outputs of PyTorch in float64, and those of the graph, for one picture."""
    deploy = deploy_form(Checkpoint.load(checkpoint).model()).double()
    spec = InputSpec(name="images", batch=1, height=SIZE[0], width=SIZE[1])
    images, _ = Preprocessor(spec)(frame)
    with torch.inference_mode():
        expected = {role: tensor.numpy() for role, tensor in deploy(torch.from_numpy(images).double()).items()}
    writer = GraphWriter()
    write_network(writer, deploy, images="images", height=SIZE[0], width=SIZE[1])
    shapes = {role: value.shape for role, value in expected.items()}
    model = writer.model(inputs={"images": images.shape}, outputs=shapes, metadata={})
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    found = session.run(list(expected), {"images": images})
    return expected, dict(zip(expected, found, strict=True))


@pytest.mark.parametrize("case", CASES)
def test_each_head_gives_pytorch_s_numbers(case, checkpoint_maker, scene_frames, tmp_path):
    options, roles = CASES[case]
    expected, found = written(checkpoint_maker(tmp_path / "c.safetensors", scene_frames, **options), scene_frames[0])
    assert set(found) == roles
    for role, value in expected.items():
        assert np.ptp(value) > 100 * ALLOWED[role]  # else any graph would do
        np.testing.assert_allclose(found[role], value, rtol=0, atol=ALLOWED[role], err_msg=role)


def test_another_upsampling_is_refused():
    wider = torch.nn.ConvTranspose2d(8, 8, 3, 2)
    with pytest.raises(ExportError, match="ConvTranspose2d"):
        onnx_heads._double(GraphWriter(), wider, onnx_heads.Map("x", 8, 4, 4), "up")
