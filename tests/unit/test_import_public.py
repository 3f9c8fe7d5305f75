"""Reading public ``.pt`` checkpoints, made here under the public module names without the public packages."""

from __future__ import annotations

import hashlib
import sys
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
import typer
from torch import nn
from typer.testing import CliRunner

from yolo12edge.checkpoint import Checkpoint, import_public, read_metadata
from yolo12edge.cli.import_checkpoint import import_
from yolo12edge.errors import CheckpointError, InputError
from yolo12edge.keypoints import COCO_PERSON, KeypointSpec
from yolo12edge.manifest import TASKS
from yolo12edge.nn import YOLO12, ModelConfig, build_model
from yolo12edge.nn.blocks import A2C2f, ABlock, AreaAttention, Bottleneck, C3k, C3k2, Conv
from yolo12edge.nn.config import TRAITS
from yolo12edge.nn.heads import Classify, Detect, Obb, Pose, Prototypes, Segment

PUBLIC = {
    Conv: ("conv", "Conv"),
    Bottleneck: ("block", "Bottleneck"),
    C3k: ("block", "C3k"),
    C3k2: ("block", "C3k2"),
    AreaAttention: ("block", "AAttn"),
    ABlock: ("block", "ABlock"),
    A2C2f: ("block", "A2C2f"),
    Detect: ("head", "Detect"),
    Segment: ("head", "Segment"),
    Prototypes: ("block", "Proto"),
    Pose: ("head", "Pose"),
    Obb: ("head", "OBB"),
    Classify: ("head", "Classify"),
}
POINTS = KeypointSpec(count=4, dimensions=2, names=["nose", "tail", "left", "right"])
SHARED = Path(__file__).parents[2].parent / "shared" / "checkpoints" / "bccd-yolo12n.pt"


class PublicPackage:
    """The public package's classes, as far as pickling goes; present only while this is open."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.monkeypatch = monkeypatch

    def type(self, module: str, name: str, base: type = nn.Module) -> type[Any]:
        parts = module.split(".")
        for end in range(1, len(parts) + 1):
            package = ".".join(parts[:end])
            if package not in sys.modules:
                self.monkeypatch.setitem(sys.modules, package, ModuleType(package))
        home = sys.modules[module]
        if not hasattr(home, name):
            setattr(home, name, type(name, (base,), {"__module__": module}))
        made: type[Any] = getattr(home, name)
        return made

    def module(self, source: nn.Module) -> nn.Module:
        """Return a copy of a module tree that is made of public classes."""
        if type(source) in PUBLIC:
            file, name = PUBLIC[type(source)]
            copy: nn.Module = self.type(f"ultralytics.nn.modules.{file}", name)()
        else:
            copy = type(source).__new__(type(source))
            copy.__dict__.update(source.__dict__)
            copy._modules = {}
        copy._parameters = dict(source._parameters)
        copy._buffers = dict(source._buffers)
        for name, child in source.named_children():
            copy._modules[name] = self.module(child)
        if isinstance(source, AreaAttention):
            copy.area, copy.num_heads = source.area, source.heads  # type: ignore[assignment]
        return copy

    def model(self, source: YOLO12, **attributes: object) -> nn.Module:
        model: nn.Module = self.type("ultralytics.nn.tasks", "DetectionModel")()
        model.model = nn.Sequential(*self.module(source.model).children())
        for name, value in attributes.items():
            setattr(model, name, value)
        return model


@pytest.fixture
def save(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Path]:
    """Return a function that calls its argument with the public package, saves what it returns, and removes it."""

    def run(make: Callable[[PublicPackage], object]) -> Path:
        with monkeypatch.context() as context:
            torch.save(make(PublicPackage(context)), tmp_path / "public.pt")
        assert not any(name.startswith("ultralytics") for name in sys.modules)
        return tmp_path / "public.pt"

    return run


def random_model(**config: Any) -> YOLO12:
    torch.manual_seed(0)
    return build_model(ModelConfig(**{"num_classes": 3, **config})).half().eval()


def public_pose(public: PublicPackage, source: YOLO12, *, shape: object, **attributes: object) -> nn.Module:
    """Return a public model whose head states the shape of its keypoints."""
    model = public.model(source, names=["a", "b", "c"], **attributes)
    model.model[-1].kpt_shape = shape  # type: ignore[index,union-attr]
    return model


def assert_same_weights(checkpoint: Checkpoint, model: YOLO12) -> None:
    state = model.state_dict()
    assert checkpoint.tensors.keys() == state.keys()
    for key, value in state.items():
        assert torch.equal(checkpoint.tensors[key], value.float() if value.is_floating_point() else value), key
    built = checkpoint.model()
    image = torch.rand(1, 3, 64, 96)
    with torch.no_grad():
        expected = model.float().head.decode(model(image))
        for role, value in built.head.decode(built(image)).items():
            torch.testing.assert_close(value, expected[role], atol=1e-3, rtol=1e-4)


def test_stripped_training_checkpoint(save: Callable[..., Path]) -> None:
    source = random_model(bn_eps=2e-3, areas=(2, 1))
    path = save(
        lambda public: {
            "epoch": -1,
            "ema": None,
            "optimizer": None,
            "model": public.model(source, names={0: "RBC", 1: "WBC\x1b[31m", 2: "Platelets"}, nc=3, yaml={"nc": 3}),
            "train_args": {"imgsz": 416, "epochs": 5, "project": None, "save_dir": Path("runs/x")},
            "train_metrics": {"metrics/mAP50(B)": 0.5},
            "date": "2026-01-01",
            "version": "8.4.0",
            "license": "AGPL-3.0 (https://example.org/license)",
        }
    )
    checkpoint = import_public(path)
    meta = checkpoint.meta
    assert (meta.scale, meta.variant, meta.source, meta.weights_license) == ("n", "v1", "imported", "AGPL-3.0")
    assert meta.class_names == ["RBC", "WBC [31m", "Platelets"]  # nothing that could steer a terminal
    assert (meta.image_size, meta.bn_eps, meta.areas) == (416, 2e-3, (2, 1))
    assert meta.training == {
        "assumed": [],
        "version": "8.4.0",
        "date": "2026-01-01",
        "epochs": 5,
        "metrics": {"metrics/mAP50(B)": 0.5},
    }
    assert_same_weights(checkpoint, source)


def test_running_checkpoint_gives_its_average(save: Callable[..., Path]) -> None:
    source, other = random_model(), random_model()
    with torch.no_grad():
        other.model[0].conv.weight.zero_()
    names = ["a", "b", "c"]
    for first in (None, other):
        path = save(
            lambda public, first=first: {
                "ema": public.model(source, names=names, args=public.type("ultralytics.utils", "Args", object)()),
                "model": first and public.model(first, names=names),
                "optimizer": {"state": {0: {"momentum_buffer": torch.zeros(3)}}, "param_groups": [{"params": [0]}]},
            }
        )
        checkpoint = import_public(path)
        assert checkpoint.meta.class_names == names
        assert checkpoint.meta.weights_license == "AGPL-3.0"  # by the vendor's word, without a statement in the file
        assert checkpoint.meta.training["assumed"] == ["image_size"]
        assert_same_weights(checkpoint, source)


def test_turbo_with_residual_and_another_ratio(save: Callable[..., Path]) -> None:
    source = random_model(variant="turbo", residual=True, mlp_ratio=1.5)
    checkpoint = import_public(save(lambda public: {"model": public.model(source, names=["a", "b", "c"])}))
    assert (checkpoint.meta.variant, checkpoint.meta.residual, checkpoint.meta.mlp_ratio) == ("turbo", True, 1.5)
    assert_same_weights(checkpoint, source)


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("variant", ["v1", "turbo"])
def test_every_task(save: Callable[..., Path], task: str, variant: str) -> None:
    points = {"keypoints": POINTS} if task == "pose" else {}
    source = random_model(task=task, variant=variant, **points)

    def make(public: PublicPackage) -> dict[str, object]:
        if task == "pose":
            return {"model": public_pose(public, source, shape=[4, 2], kpt_names={0: POINTS.names, 1: POINTS.names})}
        return {"model": public.model(source, names=["a", "b", "c"])}

    checkpoint = import_public(save(make))
    meta = checkpoint.meta
    assert (meta.task, meta.variant, meta.class_names) == (task, variant, ["a", "b", "c"])
    assert meta.keypoints == (POINTS if task == "pose" else None)
    assert (meta.areas, meta.bn_eps) == (source.config.areas, source.config.bn_eps)
    assert (meta.image_size, meta.training["assumed"]) == (TRAITS[source.config.task].image_size, ["image_size"])
    assert checkpoint.config() == source.config
    assert_same_weights(checkpoint, source)


def test_the_areas_of_turbo_classifiers_are_read_and_otherwise_assumed(
    save: Callable[..., Path], tmp_path: Path
) -> None:
    source = random_model(task="classify", variant="turbo", areas=(4, 1))  # the vendor's has 4, the authors' 1
    assert import_public(save(lambda public: {"model": public.model(source)})).meta.areas == (4, 1)
    torch.save(source.state_dict(), tmp_path / "a.pt")
    meta = import_public(tmp_path / "a.pt").meta
    assert (meta.areas, meta.bn_eps, meta.image_size) == ((1, 1), 1e-5, 224)
    assert meta.training["assumed"] == ["areas", "bn_eps", "class_names", "image_size"]


def test_a_classifier_with_its_preprocessing(save: Callable[..., Path]) -> None:
    source = random_model(task="classify")

    def make(public: PublicPackage) -> dict[str, object]:
        home = "torchvision.transforms"
        mode = public.type(f"{home}.functional", "InterpolationMode", str)
        steps = [public.type(f"{home}.transforms", name, object)() for name in ("Resize", "CenterCrop", "ToTensor")]
        steps[0].interpolation = mode("bilinear")
        whole = public.type(f"{home}.transforms", "Compose", object)()
        whole.transforms = steps
        return {"model": public.model(source, names=["a", "b", "c"], transforms=whole)}

    assert import_public(save(make)).meta.task == "classify"


def test_a_plain_state_dict_does_not_tell_the_dimensions_of_keypoints(tmp_path: Path) -> None:
    for points, taken in ((KeypointSpec(count=6, dimensions=2), (4, 3)), (POINTS, (4, 2))):
        torch.save(random_model(task="pose", keypoints=points).state_dict(), tmp_path / "a.pt")
        meta = import_public(tmp_path / "a.pt").meta
        assert meta.keypoints is not None
        assert (meta.keypoints.count, meta.keypoints.dimensions) == taken
        assert "keypoints" in meta.training["assumed"]


@pytest.mark.parametrize("shape", [[4, 3], [8, 1], [-4, -2], ["4", 2], [4.0, 2], [4, True], [2, 2, 2], 8, "42", {4: 2}])
def test_a_false_shape_of_keypoints_is_refused(save: Callable[..., Path], shape: object) -> None:
    source = random_model(task="pose", keypoints=POINTS)
    with pytest.raises(CheckpointError, match="keypoints"):
        import_public(save(lambda public: {"model": public_pose(public, source, shape=shape)}))


@pytest.mark.parametrize("names", [{0: ["a"]}, {0: POINTS.names, 1: ["d", "c", "b", "a"]}, ["a", "b", "c", 3], "abcd"])
def test_names_of_keypoints_that_do_not_fit_are_left_out(save: Callable[..., Path], names: object) -> None:
    source = random_model(task="pose", keypoints=POINTS)
    path = save(lambda public: {"model": public_pose(public, source, shape=(4, 2), kpt_names=names)})
    assert import_public(path).meta.keypoints == KeypointSpec(count=4, dimensions=2)


@pytest.mark.parametrize(
    ("count", "names", "person"), [(17, ["person"], True), (17, ["player"], False), (16, ["person"], False)]
)
def test_points_without_names_are_cocos_of_a_person(
    save: Callable[..., Path], count: int, names: list[str], person: bool
) -> None:
    source = random_model(task="pose", num_classes=1, keypoints=KeypointSpec(count=count))

    def make(public: PublicPackage) -> object:
        model = public.model(source, names=names)
        model.model[-1].kpt_shape = [count, 3]  # type: ignore[index,union-attr]
        return {"model": model}

    spec = import_public(save(make)).meta.keypoints
    assert spec == (
        KeypointSpec(count=17, names=list(COCO_PERSON)).completed() if person else KeypointSpec(count=count)
    )
    assert bool(spec.skeleton) == person


def test_the_whole_module_alone_and_wrapped(save: Callable[..., Path]) -> None:
    source = random_model()

    def wrapped(public: PublicPackage) -> nn.Module:
        outer = nn.Module()
        outer.module = public.model(source, names=["a", "b", "c"])
        return outer

    for make in (wrapped, lambda public: public.model(source, names=["a", "b", "c"])):
        checkpoint = import_public(save(make))
        assert checkpoint.meta.class_names == ["a", "b", "c"]
        assert_same_weights(checkpoint, source)


@pytest.mark.parametrize(
    ("prefix", "key"),
    [("model.", None), ("", None), ("module.model.", "model"), ("ema.module.model.", "state_dict"), ("model.", "ema")],
)
def test_plain_state_dicts(tmp_path: Path, prefix: str, key: str | None) -> None:
    source = random_model()
    state = OrderedDict((prefix + k.removeprefix("model."), v) for k, v in source.state_dict().items())
    torch.save({key: state} if key else state, tmp_path / "a.pt")
    checkpoint = import_public(tmp_path / "a.pt")
    meta = checkpoint.meta
    assert meta.training == {"assumed": ["areas", "bn_eps", "class_names", "image_size"]}
    assert (meta.class_names, meta.image_size) == (["class 0", "class 1", "class 2"], 640)
    assert meta.weights_license is None
    assert checkpoint.tensors.keys() == source.state_dict().keys()


def change(key: str, value: torch.Tensor | None) -> Callable[[dict[str, torch.Tensor]], None]:
    def apply(state: dict[str, torch.Tensor]) -> None:
        if value is None:
            del state[key]
        else:
            state[key] = value

    return apply


@pytest.mark.parametrize(
    ("apply", "message"),
    [
        (change("model.21.dfl.conv.weight", torch.ones(1, 16, 1, 1)), "box decoder"),
        (change("model.0.bn.bias", None), "missing: model.0.bn.bias"),
        (change("model.30.weight", torch.ones(1)), "unexpected: model.30.weight"),
        (change("model.5.bn.bias", torch.ones(3)), r"model.5.bn.bias \(3,\) not \(128,\)"),
        (change("model.5.bn.bias", torch.full((128,), float("nan"))), "'model.5.bn.bias'.*not finite"),
        (change("model.5.bn.bias", torch.full((128,), 1e300, dtype=torch.float64)), "'model.5.bn.bias'.*not finite"),
        (
            change("model.21.proto.cv1.conv.weight", torch.ones(1)),
            r"missing: .*another shape: model.21.proto.cv1.conv.weight \(1,\)",
        ),
        (change("model.0.conv.bias", torch.ones(16)), "folded"),
        (change("model.0.conv.weight", None), "no YOLO model"),
    ],
)
def test_weights_that_do_not_fit_are_refused(tmp_path: Path, apply: Callable[..., None], message: str) -> None:
    state = dict(random_model().state_dict())
    apply(state)
    torch.save(state, tmp_path / "public.pt")
    with pytest.raises(CheckpointError, match=message) as caught:
        import_public(tmp_path / "public.pt")
    assert "public.pt" in str(caught.value)


def test_two_models_in_one_state_dict_are_refused(tmp_path: Path) -> None:
    state = random_model().state_dict()
    torch.save({f"{who}.{k}": v for who in ("teacher", "student") for k, v in state.items()}, tmp_path / "a.pt")
    with pytest.raises(CheckpointError, match="more than one"):
        import_public(tmp_path / "a.pt")


def other_generation() -> dict[str, torch.Tensor]:
    """Return the first keys of another public YOLO: alike up to layer 6."""
    state = {k: v for k, v in random_model().state_dict().items() if ".attn." not in k}
    return {**state, "model.10.cv1.conv.weight": torch.ones(1), "model.23.dfl.conv.weight": torch.ones(1)}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (other_generation, "not those of a YOLO12 model"),
        (lambda: nn.Linear(2, 3), "no YOLO model"),
        (lambda: {"weight": torch.ones(3)}, "no YOLO model"),
        (lambda: {"model": None, "ema": None}, "holds no model"),
        (lambda: torch.ones(3), "holds no model"),
        (lambda: [1, 2, 3], "holds no model"),
        (lambda: {}, "holds no model"),
    ],
)
def test_other_content_ends_in_one_message(tmp_path: Path, content: Callable[[], object], message: str) -> None:
    torch.save(content(), tmp_path / "public.pt")
    with pytest.raises(CheckpointError, match=message):
        import_public(tmp_path / "public.pt")


@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        ({"names": ["a", "b"]}, "class names do not fit"),
        ({"names": {0: "a", 1: "b", 5: "c"}}, "class names do not fit"),
        ({"names": ["a", "b", 3]}, "class names do not fit"),
        ({"names": 7}, "class names do not fit"),
    ],
)
def test_contradicting_attributes_are_refused(
    save: Callable[..., Path], attributes: dict[str, object], message: str
) -> None:
    source = random_model()
    with pytest.raises(CheckpointError, match=message):
        import_public(save(lambda public: {"model": public.model(source, **attributes)}))


def test_differing_epsilons_and_areas_are_refused(save: Callable[..., Path]) -> None:
    source = random_model()
    source.model[3].bn.eps = 1e-5
    with pytest.raises(CheckpointError, match="epsilon"):
        import_public(save(lambda public: {"model": public.model(source)}))
    with pytest.raises(CheckpointError, match="areas"):
        import_public(save(lambda public: {"model": public.model(random_model(areas=(4, 4)))}))
    source = random_model()
    next(m for m in source.model[6].modules() if isinstance(m, AreaAttention)).area = 2
    with pytest.raises(CheckpointError, match="areas of layer 6"):
        import_public(save(lambda public: {"model": public.model(source)}))


def test_a_module_that_holds_itself_ends(save: Callable[..., Path]) -> None:
    def cyclic(public: PublicPackage) -> nn.Module:
        model = public.model(random_model())
        model._modules["again"] = model
        return model

    def doubling(public: PublicPackage) -> nn.Module:
        model = nn.Linear(1, 1)
        for _ in range(25):
            outer = nn.Module()
            outer.a = outer.b = model
            model = outer  # type: ignore[assignment]
        return model

    for make in (cyclic, doubling):
        with pytest.raises(CheckpointError, match="nested deeper"):
            import_public(save(make))


@pytest.mark.skipif(not SHARED.exists(), reason="the public checkpoint for development is not on this machine")
def test_a_trained_public_file() -> None:
    checkpoint = import_public(SHARED)
    meta = checkpoint.meta
    assert (meta.scale, meta.variant, meta.residual, meta.mlp_ratio) == ("n", "v1", False, 2.0)
    assert (meta.class_names, meta.image_size) == (["RBC", "WBC", "Platelets"], 320)
    assert (meta.bn_eps, meta.areas, meta.weights_license) == (1e-3, (4, 1), "AGPL-3.0")
    assert meta.training["assumed"] == []
    assert len(checkpoint.tensors) == 691
    assert "ultralytics" not in sys.modules
    lines = [f"{k} {'x'.join(map(str, v.shape))}" for k, v in sorted(checkpoint.tensors.items()) if ".21.cv3." not in k]
    assert hashlib.sha256("\n".join(lines).encode()).hexdigest()[:12] == backbone_digest()
    checkpoint.model()


def backbone_digest() -> str:
    state = build_model(ModelConfig()).state_dict()
    lines = [f"{k} {'x'.join(map(str, v.shape))}" for k, v in sorted(state.items()) if ".21.cv3." not in k]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:12]


@pytest.fixture
def command() -> Callable[..., Any]:
    app = typer.Typer()
    app.command("import")(import_)
    return lambda *arguments: CliRunner().invoke(app, [str(a) for a in arguments])


def test_command(save: Callable[..., Path], command: Callable[..., Any], tmp_path: Path) -> None:
    path = save(lambda public: {"model": public.model(random_model(), names=["[red]", "b", "c"])})
    done = command(path)
    assert done.exit_code == 0, done.output
    for part in ("YOLO12n (v1)", "3: [red], b, c", "640 px", "2,568,633", "AGPL-3.0", "image_size = 640"):
        assert part in done.output
    assert read_metadata(tmp_path / "public.safetensors").class_names == ["[red]", "b", "c"]

    again = command(path)
    assert isinstance(again.exception, InputError)
    assert "exists already" in str(again.exception)

    other = tmp_path / "other.safetensors"
    done = command(path, "-o", other, "--license", "Enterprise")
    assert done.exit_code == 0
    assert read_metadata(other).weights_license == "Enterprise"
    assert "have to publish" not in done.output


def test_command_tells_the_keypoints(command: Callable[..., Any], save: Callable[..., Path], tmp_path: Path) -> None:
    source = random_model(task="pose", keypoints=POINTS)
    path = save(lambda public: {"model": public_pose(public, source, shape=(4, 2), kpt_names={0: POINTS.names})})
    done = command(path)
    assert done.exit_code == 0, done.output
    for part in ("pose", "4 x 2: nose, tail, left, right"):
        assert part in done.output
    torch.save(source.state_dict(), tmp_path / "plain.pt")
    assert "keypoints = 4 x 2" in command(tmp_path / "plain.pt").output


def test_command_leaves_nothing_behind_on_an_error(command: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "a.pt").write_bytes(b"PK\x03\x04")
    done = command(tmp_path / "a.pt")
    assert isinstance(done.exception, CheckpointError)
    assert [p.name for p in tmp_path.iterdir()] == ["a.pt"]
