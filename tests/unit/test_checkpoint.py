"""Checkpoints: what is written comes back, and what is damaged or foreign ends in one clear error."""

from __future__ import annotations

import contextlib
import json
import random
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
import torch
from safetensors.torch import save_file

from yolo12edge.checkpoint import Checkpoint, CheckpointMeta, read_header, read_metadata
from yolo12edge.errors import CheckpointError
from yolo12edge.nn import ModelConfig, build_model
from yolo12edge.nn.infer import infer_config


def meta(**changes: object) -> CheckpointMeta:
    values: dict[str, object] = {
        "scale": "n",
        "variant": "v1",
        "class_names": ["cell", "Blutplättchen", "白血球"],
        "image_size": 320,
        "bn_eps": 2e-3,
        "mlp_ratio": 2.0,
        "residual": False,
        "areas": (4, 1),
        "source": "trained",
        "weights_license": None,
        "training": {"epochs": 3, "ap": 0.5},
    }
    return CheckpointMeta(**{**values, **changes})  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def checkpoint() -> Checkpoint:
    torch.manual_seed(0)
    return Checkpoint(meta(), dict(build_model(ModelConfig(num_classes=3)).state_dict()))


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """A valid file whose tensors are too few for a model."""
    path = tmp_path / "small.safetensors"
    Checkpoint(meta(), {"a": torch.arange(6.0).view(2, 3), "n": torch.tensor(7)}).save(path)
    return path


def test_round_trip(checkpoint: Checkpoint, tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    checkpoint.save(path)
    loaded = Checkpoint.load(path)
    assert loaded.meta == checkpoint.meta == read_metadata(path)
    assert loaded.tensors.keys() == checkpoint.tensors.keys()
    assert all(torch.equal(loaded.tensors[k], v) for k, v in checkpoint.tensors.items())
    assert list(tmp_path.iterdir()) == [path]

    model = loaded.model()
    assert not model.training
    assert {m.eps for m in model.modules() if isinstance(m, torch.nn.BatchNorm2d)} == {2e-3}
    assert read_header(path).parameters == sum(p.numel() for p in model.parameters())
    assert all(torch.equal(v, checkpoint.tensors[k]) for k, v in model.state_dict().items())


def test_saving_twice_gives_the_same_bytes(checkpoint: Checkpoint, tmp_path: Path) -> None:
    paths = [tmp_path / "a.safetensors", tmp_path / "b.safetensors"]
    for path in paths:
        checkpoint.save(path)
    assert paths[0].read_bytes() == paths[1].read_bytes()


def test_half_is_small_and_loads_as_float32(checkpoint: Checkpoint, tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    checkpoint.save(path, half=True)
    assert path.stat().st_size < 6e6
    loaded = Checkpoint.load(path)
    weight = checkpoint.tensors["model.0.conv.weight"]
    assert loaded.tensors["model.0.conv.weight"].dtype == torch.float32
    torch.testing.assert_close(loaded.tensors["model.0.conv.weight"], weight, atol=1e-3, rtol=1e-3)
    assert loaded.tensors["model.0.bn.num_batches_tracked"].dtype == torch.int64
    loaded.model()


def test_tied_and_strided_tensors_are_saved(tmp_path: Path) -> None:
    whole = torch.arange(12.0).view(3, 4)
    tensors = {"whole": whole, "view": whole[1:], "transposed": whole.T}
    Checkpoint(meta(), tensors).save(tmp_path / "a.safetensors")
    loaded = Checkpoint.load(tmp_path / "a.safetensors").tensors
    assert all(torch.equal(loaded[key], value) for key, value in tensors.items())


@pytest.mark.parametrize(("value", "half"), [(float("nan"), False), (float("inf"), False), (1e6, True)])
def test_values_that_are_not_finite_are_not_saved(tmp_path: Path, value: float, half: bool) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(b"the last good one")
    with pytest.raises(CheckpointError, match=r"'x'.*not finite"):
        Checkpoint(meta(), {"x": torch.tensor([0.0, value])}).save(path, half=half)
    assert path.read_bytes() == b"the last good one"


def test_values_that_are_not_finite_are_not_loaded(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    save_file({"x": torch.tensor([float("nan")])}, path, metadata={"yolo12edge": meta().to_json()})
    with pytest.raises(CheckpointError, match=r"'x'.*not finite"):
        Checkpoint.load(path)


def test_another_ending_is_refused(checkpoint: Checkpoint, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"\.safetensors"):
        checkpoint.save(tmp_path / "a.pt")


def test_model_names_the_tensors_that_do_not_fit(checkpoint: Checkpoint) -> None:
    tensors = dict(checkpoint.tensors)
    del tensors["model.0.bn.bias"]
    tensors["model.99.weight"] = torch.zeros(1)
    tensors["model.21.cv3.0.2.bias"] = torch.zeros(5)
    with pytest.raises(CheckpointError) as caught:
        Checkpoint(checkpoint.meta, tensors).model()
    message = str(caught.value)
    for part in (
        "missing: model.0.bn.bias",
        "unexpected: model.99.weight",
        "model.21.cv3.0.2.bias (5,) not (3,)",
    ):
        assert part in message


def write_metadata(path: Path, changes: dict[str, object]) -> None:
    raw = {**msgspec.to_builtins(meta()), **changes}
    raw = {key: value for key, value in raw.items() if value != "absent"}
    save_file({"x": torch.zeros(1)}, path, metadata={"yolo12edge": json.dumps(raw)})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format_version": 2}, "format version 2"),
        ({"format_version": "absent"}, "format version None"),
        ({"class_names": "absent"}, "class_names"),
        ({"class_names": []}, "class_names"),
        ({"part": "backbone"}, "class_names"),
        ({"task": "pose"}, "task"),
        ({"scale": "q"}, "scale"),
        ({"image_size": 321}, "image_size"),
        ({"image_size": 0}, "image_size"),
        ({"bn_eps": "0.001"}, "bn_eps"),
        ({"mlp_ratio": -1.0}, "mlp_ratio"),
        ({"areas": [4]}, "areas"),
        ({"areas": [0, 1]}, "areas"),
        ({"areas": [3, 1]}, "areas"),
        ({"areas": [4, 4]}, "areas"),
        ({"surprise": 1}, "surprise"),
    ],
)
def test_invalid_metadata_is_refused(tmp_path: Path, changes: dict[str, object], message: str) -> None:
    path = tmp_path / "a.safetensors"
    write_metadata(path, changes)
    for read in (Checkpoint.load, read_metadata):
        with pytest.raises(CheckpointError, match=message) as caught:
            read(path)
        assert caught.value.remedy


def test_foreign_safetensors_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    save_file({"x": torch.zeros(1)}, path, metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match="not one that yolo12edge wrote"):
        Checkpoint.load(path)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"PK\x03\x04 not safetensors",
        b"\xff" * 64,
        (2).to_bytes(8, "little") + b"[]",
        (4).to_bytes(8, "little") + b"null",
        (100_000).to_bytes(8, "little") + b"[" * 100_000,
        (19).to_bytes(8, "little") + b'{"__metadata__": 1}',
        (9).to_bytes(8, "little") + b'{"a":"b"}',
    ],
)
def test_other_files_are_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(content)
    with pytest.raises(CheckpointError):
        Checkpoint.load(path)


def test_missing_file_and_directory(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="cannot be read"):
        Checkpoint.load(tmp_path / "absent.safetensors")
    with pytest.raises(CheckpointError, match="cannot be read"):
        Checkpoint.load(tmp_path)


def test_truncation_is_refused(small: Path) -> None:
    content = small.read_bytes()
    for length in range(0, len(content), 3):
        small.write_bytes(content[:length])
        with pytest.raises(CheckpointError):
            Checkpoint.load(small)


def test_flipped_bytes_end_in_an_error_or_a_checkpoint(small: Path) -> None:
    content = small.read_bytes()
    generator = random.Random(0)
    for _ in range(300):
        damaged = bytearray(content)
        for _ in range(generator.randint(1, 3)):
            damaged[generator.randrange(len(damaged))] = generator.randrange(256)
        small.write_bytes(damaged)
        with contextlib.suppress(CheckpointError):
            Checkpoint.load(small)


def test_metadata_is_read_without_torch(small: Path) -> None:
    code = (
        "import sys; sys.modules['torch'] = sys.modules['safetensors'] = None\n"
        "from yolo12edge.checkpoint import read_header, read_metadata\n"
        "from yolo12edge.errors import MissingDependencyError\n"
        "assert read_metadata(sys.argv[1]).image_size == 320 and read_header(sys.argv[1]).parameters == 7\n"
        "try:\n"
        "    from yolo12edge.checkpoint import Checkpoint\n"
        "except MissingDependencyError as error:\n"
        "    print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(small)], capture_output=True, text=True, check=True)
    assert "pip install 'yolo12edge[train]'" in done.stdout


@pytest.mark.parametrize("scale", ["n", "s", "m", "l", "x"])
@pytest.mark.parametrize("variant", ["v1", "turbo"])
def test_infer_config_finds_every_model(scale: str, variant: str) -> None:
    config = ModelConfig(scale=scale, variant=variant, num_classes=7, areas=(2, 1))
    with torch.device("meta"):
        shapes = build_model(config).state_dict()
    assert infer_config(shapes, areas=(2, 1)) == config


@pytest.mark.parametrize(("scale", "ratio"), [("n", 1.0), ("n", 1.37), ("m", 1.2), ("l", 1.0), ("x", 1.5)])
@pytest.mark.parametrize("residual", [True, False])
def test_infer_config_reads_ratio_and_residual_from_the_shapes(scale: str, ratio: float, residual: bool) -> None:
    with torch.device("meta"):
        shapes = build_model(ModelConfig(scale=scale, mlp_ratio=ratio, residual=residual)).state_dict()
        inferred = infer_config(shapes, areas=(4, 1))
        rebuilt = build_model(inferred).state_dict()
    assert inferred.residual is residual
    assert {k: v.shape for k, v in rebuilt.items()} == {k: v.shape for k, v in shapes.items()}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model.0.conv.bias": (16,)}, "folded"),
        ({"model.0.conv.weight": (48, 3, 3, 3)}, "48 output channels"),
        ({"model.0.conv.weight": ()}, "has shape"),
        ({"model.21.cv3.0.2.weight": None}, r"'cv3.0.2.weight' is missing in model.21"),
        ({"model.21.cv4.0.2.weight": (1001 * 3, 64, 1, 1)}, "keypoints have 3003 rows"),
        ({"model.21.cv4.0.2.weight": (31, 64, 1, 1)}, "keypoints have 31 rows"),
        ({"model.6.m.0.0.mlp.0.conv.weight": (100, 32, 1, 1)}, "hidden channels"),
        ({"model.6.m.0.0.attn.qkv.conv.weight": None}, "not those of a YOLO12 model"),
    ],
)
def test_infer_config_refuses_other_models(change: dict[str, tuple[int, ...] | None], message: str) -> None:
    with torch.device("meta"):
        shapes: dict[str, torch.Tensor] = dict(build_model(ModelConfig()).state_dict())
        for key, shape in change.items():
            if shape is None:
                del shapes[key]
            else:
                shapes[key] = torch.empty(shape)
    with pytest.raises(CheckpointError, match=message):
        infer_config(shapes, areas=(4, 1))


def test_others_may_read_a_saved_checkpoint(checkpoint: Checkpoint, tmp_path: Path) -> None:
    plain = tmp_path / "plain"
    plain.touch()
    checkpoint.save(tmp_path / "model.safetensors")
    assert (tmp_path / "model.safetensors").stat().st_mode == plain.stat().st_mode
