"""Pretraining: what each method shows and asks, runs as a whole, and what becomes of a backbone afterwards."""

from __future__ import annotations

import csv
import errno
import math
from dataclasses import replace
from pathlib import Path

import cv2
import lightning as L
import numpy as np
import pytest
import torch
from torch import Tensor
from typer.testing import CliRunner

from yolo12edge.checkpoint import Checkpoint, read_metadata
from yolo12edge.cli import app
from yolo12edge.data.dataset import read_dataset
from yolo12edge.data.scenes import generate_scenes
from yolo12edge.errors import CheckpointError, DatasetError, InputError, Yolo12EdgeError
from yolo12edge.nn import ModelConfig, build_model
from yolo12edge.training.pretraining import (
    Backbone,
    KnnClassifier,
    PretrainConfig,
    PretrainRecord,
    embed,
    find_pictures,
    load_backbone,
    pretrain,
    probe_backbone,
    resume,
)
from yolo12edge.training.pretraining.arrangement import Jigsaw, Rotation, orders
from yolo12edge.training.pretraining.backbone import fit_batch_norms
from yolo12edge.training.pretraining.contrastive import Byol, SimClr, nt_xent
from yolo12edge.training.pretraining.loader import plain_batches
from yolo12edge.training.pretraining.methods import METHODS
from yolo12edge.training.pretraining.restoration import Colourisation, Inpainting

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:lightning")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return generate_scenes(tmp_path_factory.mktemp("data") / "scenes", train=5, val=2, size=96, seed=5).path


@pytest.fixture
def config(data: Path, tmp_path: Path) -> PretrainConfig:
    return PretrainConfig(data=data, out=tmp_path / "run", epochs=2, batch=4, image_size=64, workers=0, device="cpu")


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    torch.manual_seed(0)
    return Backbone(ModelConfig(num_classes=1)).eval()


def noise(seed: int, *hw: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (*hw, 3), np.uint8)


class _Eye(Backbone):
    """Sees which corner of a picture is brightest, and nothing else."""

    def __init__(self) -> None:
        super(Backbone, self).__init__()
        self.widths = (8, 8, 4)

    def pooled(self, images: Tensor) -> Tensor:
        grey, half = images.mean(1), images.shape[-1] // 2
        corners = (grey[:, :half, :half], grey[:, half:, :half], grey[:, half:, half:], grey[:, :half, half:])
        return torch.stack([corner.mean((1, 2)) for corner in corners], 1)


# --- methods ----------------------------------------------------------------------------------------------------------


def test_contrastive_loss_is_that_of_the_paper() -> None:
    views = torch.eye(2) * 3  # partners equal, all others orthogonal; length must not matter
    loss, accuracy = nt_xent(views, views, 0.5)
    assert float(loss) == pytest.approx(-math.log(math.exp(2) / (math.exp(2) + 2)), rel=1e-5)
    assert float(accuracy) == 1
    assert float(nt_xent(views, views.flip(0), 0.5)[1]) == 0


def test_contrast_tells_different_pictures_apart_from_the_start(backbone: Backbone) -> None:
    """Where all views fall on one point the gradient is so small that they stay there."""
    torch.manual_seed(0)
    pairs = torch.randint(0, 256, (4, 1, 3, 8, 8), dtype=torch.uint8)
    pairs = pairs.repeat_interleave(8, 3).repeat_interleave(8, 4).repeat(1, 2, 1, 1, 1)
    found = SimClr(backbone)(backbone, pairs)
    assert found["accuracy"] == 1
    assert found["loss"] < 1  # chance: log 7


def test_one_picture_far_from_all_others_does_not_hide_them(backbone: Backbone) -> None:
    torch.manual_seed(0)
    features = torch.randn(16, backbone.widths[2])
    features[0] *= 1e4
    rows = torch.nn.functional.normalize(SimClr(backbone).project(features)[1:], dim=1)
    assert (rows @ rows.T).mean() < 0.5  # 1: all the same


def test_average_of_byol_follows_slowly_and_learns_nothing_itself(backbone: Backbone) -> None:
    method = Byol(backbone)
    assert not any(parameter.requires_grad for parameter in method.average.parameters())
    with torch.no_grad():
        method.project[0].weight.add_(1)
    before = method.average[1][0].weight.clone()
    method.after_step(backbone, 0.0)
    torch.testing.assert_close(method.average[1][0].weight, before + 1 - method.decay)
    method.after_step(backbone, 1.0)  # at the end of a run it stands still
    torch.testing.assert_close(method.average[1][0].weight, before + 1 - method.decay)


def test_orders_of_tiles_are_far_from_one_another() -> None:
    table = orders(64)
    assert (np.sort(table, axis=1) == np.arange(9)).all()
    distances = (table[:, None] != table[None]).sum(2)[np.triu_indices(64, 1)]
    assert distances.min() >= 6
    assert distances.mean() > 7.9


def test_tiles_lie_in_the_order_that_is_asked_for() -> None:
    picture = np.zeros((96, 96, 3), np.uint8)
    for place in range(9):
        top, left = np.array(divmod(place, 3)) * 32
        picture[top : top + 32, left : left + 32] = 20 * place
    full = type("Full", (Jigsaw,), {})
    for seed in range(6):
        rng = np.random.default_rng(seed)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("yolo12edge.training.pretraining.arrangement.crop_and_flip", lambda image, *_, **__: image)
            tiles, order = full.views(picture, 96, rng)
        assert tiles.shape == (9, 3, 32, 32)
        assert (tiles[:, 0, 0, 0] // 20 == orders(64)[int(order)]).all()


def test_rotations_are_told_by_the_turn() -> None:
    images = torch.zeros(3, 3, 32, 32, dtype=torch.uint8)
    images[:, :, :8, :8] = 255  # top left; a quarter turn brings it to the bottom left
    method = Rotation(_Eye())
    with torch.no_grad():
        method.classify.weight.copy_(torch.eye(4) * 1000)
        method.classify.bias.zero_()
    parts = method(_Eye(), images)
    assert float(parts["accuracy"]) == 1
    assert parts["loss"].item() < 1e-3


def test_inpainting_asks_for_what_is_hidden_and_for_nothing_else(backbone: Backbone) -> None:
    broken, whole, holes = Inpainting.views(noise(0, 80, 120), 64, np.random.default_rng(0))
    large = holes.repeat(4, 0).repeat(4, 1)
    assert (broken[:, large] == 128).all()
    assert 0.25 <= holes.mean() < 0.4
    means = broken.reshape(3, 16, 4, 16, 4).mean((2, 4))
    np.testing.assert_allclose(means[:, ~holes], whole[:, ~holes], atol=1)
    method = Inpainting(backbone).eval()
    batch = [torch.from_numpy(np.asarray(view))[None] for view in (broken, whole, holes)]
    loss = method(backbone, *batch)["loss"]
    seen = batch[1].clone()
    seen[0, :, ~torch.from_numpy(holes)] = 0
    assert method(backbone, batch[0], seen, batch[2])["loss"] == loss
    hidden = batch[1].clone()
    hidden[0, :, torch.from_numpy(holes)] //= 2
    assert method(backbone, batch[0], hidden, batch[2])["loss"] != loss


def test_colours_are_asked_for_and_not_shown() -> None:
    picture = np.zeros((64, 64, 3), np.uint8)
    picture[:, :, 0] = 200
    red, wanted = Colourisation.views(picture, 64, np.random.default_rng(0))
    assert (red[0] == red[1]).all()
    assert (red[0] == red[2]).all()
    assert wanted.shape == (8, 8)
    lab = cv2.cvtColor(picture, cv2.COLOR_RGB2LAB)[0, 0].astype(int)
    assert (wanted == lab[1] // 12 * 22 + lab[2] // 12).all()
    _, other = Colourisation.views(picture[..., ::-1].copy(), 64, np.random.default_rng(0))
    assert (other != wanted).all()


def test_rare_colours_weigh_more(backbone: Backbone) -> None:
    method = Colourisation(backbone).eval()
    grey = torch.zeros(1, 3, 64, 64, dtype=torch.uint8)
    rare, common = torch.full((1, 8, 8), 3), torch.full((1, 8, 8), 4)
    with torch.no_grad():
        method.decode.mix[-2].weight.zero_()
        method.decode.mix[-2].bias.zero_()  # every colour is held for as likely
        method.get_buffer("seen").zero_()[4] = 0.9
        method.get_buffer("seen")[3] = 0.1
        ratio = method(backbone, grey, rare)["loss"] / method(backbone, grey, common)["loss"]
    uniform = 0.5 / 22**2
    assert float(ratio) == pytest.approx((0.45 + uniform) / (0.05 + uniform), rel=1e-4)


# --- runs -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
def test_every_method_teaches_the_backbone(config: PretrainConfig, method: str) -> None:
    config = replace(config, method=method, epochs=1, image_size=96 if method == "jigsaw" else 64)
    starts: list[Backbone] = []
    result = pretrain(config, on_start=lambda pictures, start: starts.append(start))
    assert math.isfinite(result.records[0].values["train/loss"])
    meta = Checkpoint.load(result.files.backbone).meta
    assert (meta.part, meta.class_names, meta.training["method"], meta.training["epochs"]) == (
        "backbone",
        [],
        method,
        1,
    )
    assert meta.training["pictures_sha256"] == result.pictures.sha256
    state = load_backbone(result.files.backbone).state_dict()
    torch.manual_seed(0)
    assert any(not torch.equal(state[key], value) for key, value in Backbone(starts[0].config).state_dict().items())
    picture = cv2.imread(str(result.files.views))
    assert picture is not None
    assert picture.std() > 10


def test_loss_falls_where_there_is_something_to_learn(config: PretrainConfig, tmp_path: Path) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    sky = np.linspace(200, 0, 64).repeat(64).reshape(64, 64, 1)  # bright above, dark below
    for index in range(12):
        cv2.imwrite(str(folder / f"{index:02}.png"), np.clip(sky + noise(index, 64, 64) / 8, 0, 255).astype(np.uint8))
    result = pretrain(replace(config, data=folder, method="rotation", epochs=8, batch=6))
    assert not result.guessed
    records = result.records
    assert records[-1].values["train/loss"] < records[0].values["train/loss"] / 3
    assert records[-1].values["train/accuracy"] > 0.9


@pytest.mark.parametrize("method", ["simclr", "rotation"])
def test_run_that_had_nothing_to_learn_says_so(config: PretrainConfig, tmp_path: Path, method: str) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for index in range(6):  # nothing but a file's name and one pixel differs
        picture = np.full((64, 64, 3), 128, np.uint8)
        picture[index, 0] = 127
        cv2.imwrite(str(folder / f"{index:02}.png"), picture)
    options = ["--epochs", "2", "--batch", "6", "--imgsz", "64", "--workers", "0", "--device", "cpu"]
    out = tmp_path / "run"
    words = ["pretrain", "--data", str(folder), "--method", method, "--out", str(out), *options]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.output
    assert "learnt nothing" in result.output


class _PowerCutError(Exception):
    pass


def test_resumed_run_is_the_run_that_was_not_interrupted(config: PretrainConfig, tmp_path: Path) -> None:
    config = replace(config, method="byol", epochs=3)  # the method that keeps most between steps
    whole = pretrain(config)
    cut = replace(config, out=tmp_path / "cut", workers=1)  # the number of workers must not matter either

    def cut_power(record: PretrainRecord) -> None:
        if record.epoch == 1:
            raise _PowerCutError

    with pytest.raises(_PowerCutError):
        pretrain(cut, on_epoch=cut_power)
    moved = tmp_path / "moved"
    cut.out.rename(moved)
    resumed = resume(moved)
    columns = [
        [{k: v for k, v in row.items() if k != "seconds"} for row in csv.DictReader(run.files.results.open())]
        for run in (whole, resumed)
    ]
    assert columns[0] == columns[1]
    assert len(columns[0]) == 3
    first, second = (Checkpoint.load(run.files.backbone) for run in (whole, resumed))
    assert first.meta == second.meta
    assert all(torch.equal(first.tensors[key], second.tensors[key]) for key in first.tensors)


def test_run_is_not_resumed_on_other_pictures(config: PretrainConfig, data: Path, tmp_path: Path) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for index in range(3):
        cv2.imwrite(str(folder / f"{index}.png"), noise(index, 64, 64))

    def cut_power(record: PretrainRecord) -> None:
        raise _PowerCutError

    with pytest.raises(_PowerCutError):
        pretrain(replace(config, data=folder), on_epoch=cut_power)
    with pytest.raises(InputError, match="holds another run"):
        pretrain(replace(config, data=folder))
    (folder / "2.png").unlink()
    with pytest.raises(InputError, match="not those that the run began with"):
        resume(config.out)


def test_full_disk_costs_no_earlier_epoch(config: PretrainConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    save = L.Trainer.save_checkpoint

    def out_of_room(trainer: L.Trainer, path: Path, *args: object, **options: object) -> None:
        if trainer.current_epoch == 1:
            Path(path).write_bytes(b"half")
            raise OSError(errno.ENOSPC, "No space left on device")
        save(trainer, path, *args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(L.Trainer, "save_checkpoint", out_of_room)
    with pytest.raises(InputError, match=r"epoch 2 cannot be written .*No space left"):
        pretrain(config)
    assert not list(config.out.glob("*.tmp*"))
    assert not list(config.out.glob(".*"))
    monkeypatch.undo()
    assert [record.epoch for record in resume(config.out).records] == [1, 2]


def test_diverged_run_stops(config: PretrainConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        METHODS["rotation"], "forward", lambda self, *_: {"loss": torch.tensor(math.nan), "accuracy": torch.zeros(())}
    )
    with pytest.raises(Yolo12EdgeError, match="step 1 of epoch 1 is not finite"):
        pretrain(replace(config, method="rotation"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"method": "dino"}, "method is 'dino'"),
        ({"method": "jigsaw", "image_size": 64}, "image_size is 64"),
        ({"image_size": 100}, "multiple of 32"),
        ({"batch": 1}, "batch is 1"),
        ({"lr": math.nan}, "lr is nan"),
    ],
)
def test_wrong_settings_are_refused(config: PretrainConfig, changes: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        replace(config, **changes)


# --- pictures ---------------------------------------------------------------------------------------------------------


def test_nothing_that_is_scored_is_learnt_from(data: Path, tmp_path: Path) -> None:
    dataset = read_dataset(data)
    train, val = dataset.images("train"), dataset.images("val")
    assert find_pictures(data).paths == train
    root = Path(*train[0].parts[: train[0].parts.index("images") + 1])
    assert set(find_pictures(root).paths) == set(train)  # a folder of the dataset, with the pictures of both splits
    assert find_pictures(root).left_out == len(val)
    with pytest.raises(DatasetError, match="validation or test split"):
        find_pictures(val[0].parent)
    pool = tmp_path / "pool" / "deep"
    pool.mkdir(parents=True)
    cv2.imwrite(str(pool / "own.png"), noise(0, 64, 64))
    cv2.imwrite(str(pool / "copy.jpg"), cv2.imread(str(val[0])), [cv2.IMWRITE_JPEG_QUALITY, 80])  # other bytes
    assert len(find_pictures(pool.parent).paths) == 2
    assert [path.name for path in find_pictures(pool.parent, held_out=data).paths] == ["own.png"]


def test_labels_are_not_read(data: Path, tmp_path: Path) -> None:
    label = next((data.parent / "labels" / "train").glob("*.txt"))
    text = label.read_text()
    label.write_text("this is no label\n")
    try:
        assert len(find_pictures(data).paths) == 5
    finally:
        label.write_text(text)


def test_folders_that_cannot_be_learnt_from_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="does not exist"):
        find_pictures(tmp_path / "absent")
    with pytest.raises(DatasetError, match="no picture"):
        find_pictures(tmp_path)
    (tmp_path / "unrelated").mkdir()
    (tmp_path / "data.yaml").write_text("names: [a]\ntrain: absent\n")  # a dataset above that cannot be read
    with pytest.raises(DatasetError, match="no picture"):
        find_pictures(tmp_path / "unrelated")
    (tmp_path / "data.yaml").unlink()
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8\xff")
    with pytest.raises(DatasetError, match=r"1 of 1 pictures cannot be read: .*broken\.jpg"):
        find_pictures(tmp_path)


# --- backbones --------------------------------------------------------------------------------------------------------


def test_batch_norms_are_fitted_to_what_they_are_shown(backbone: Backbone) -> None:
    images = torch.rand(16, 3, 96, 96)
    with torch.no_grad():
        wanted = backbone.train().pooled(images)  # the statistics are a little of these images now
        before = torch.corrcoef(torch.stack((backbone.eval().pooled(images).flatten(), wanted.flatten())))[0, 1]
        fit_batch_norms(backbone, [images[:8], images[8:]])
        after = torch.corrcoef(torch.stack((backbone.pooled(images).flatten(), wanted.flatten())))[0, 1]
    assert before < 0.9 < 0.97 < after
    assert not backbone.training
    assert {norm.momentum for norm in backbone.modules() if isinstance(norm, torch.nn.BatchNorm2d)} == {0.03}


def test_backbone_starts_a_training_and_is_refused_elsewhere(config: PretrainConfig, data: Path) -> None:
    from yolo12edge.training import TrainConfig
    from yolo12edge.training.transfer import make_network

    path = pretrain(replace(config, epochs=1)).files.backbone
    checkpoint = Checkpoint.load(path)
    plain = load_backbone(checkpoint)
    pictures = find_pictures(data).paths
    fit_batch_norms(plain, plain_batches(pictures, image_size=64, batch=4, device=torch.device("cpu")))
    for key, value in plain.state_dict().items():  # its batch norms are those of plain pictures already
        torch.testing.assert_close(checkpoint.tensors[key], value)
    for dataset in (read_dataset(data), replace(read_dataset(data), task="classify")):
        network, transfer = make_network(TrainConfig(data=data, out=config.out), dataset, checkpoint)
        assert transfer is not None
        assert set(transfer.taken) == {key for key in network.state_dict() if int(key.split(".")[1]) < 9}
    with pytest.raises(CheckpointError, match="pretrained backbone"):
        read_metadata(path)
    with pytest.raises(CheckpointError, match="pretrained backbone"):
        checkpoint.model()
    for command in (["export", str(path)], ["val", str(path), "--data", str(data)], ["predict", str(path), str(data)]):
        error = CliRunner().invoke(app, command).exception
        assert isinstance(error, CheckpointError), command
        assert "train --weights" in error.remedy
    shown = CliRunner().invoke(app, ["inspect", str(path)])
    assert shown.exit_code == 0
    assert "backbone alone" in shown.output
    assert "simclr" in shown.output


def test_domain_adaptation_starts_from_a_model_and_keeps_its_licence(
    config: PretrainConfig, tiny_checkpoint_of, tmp_path: Path
) -> None:
    pose = Checkpoint.load(tiny_checkpoint_of("pose"))
    licensed = tmp_path / "pose.safetensors"
    import msgspec

    Checkpoint(msgspec.structs.replace(pose.meta, weights_license="AGPL-3.0"), pose.tensors).save(licensed)
    starts: list[dict[str, Tensor]] = []
    result = pretrain(
        replace(config, weights=licensed, epochs=1),
        on_start=lambda pictures, start: starts.append({k: v.clone() for k, v in start.state_dict().items()}),
    )
    assert all(torch.equal(value, pose.tensors[key]) for key, value in starts[0].items())
    meta = Checkpoint.load(result.files.backbone).meta
    assert (meta.weights_license, meta.part, meta.keypoints) == ("AGPL-3.0", "backbone", None)
    with pytest.raises(CheckpointError, match="holds YOLO12n v1"):
        pretrain(replace(config, out=tmp_path / "other", weights=licensed, scale="s"))


# --- the probe --------------------------------------------------------------------------------------------------------


def test_neighbours_vote_by_similarity() -> None:
    known = np.array([[1, 0], [0.9, 0.1], [-1, 0], [-1, 0.1]], np.float32)
    classifier = KnnClassifier(known, np.array([0, 0, 1, 1]), neighbours=3)
    shares = classifier.probabilities(np.array([[5, 0], [-3, 0.1]], np.float32))
    assert shares.argmax(1).tolist() == [0, 1]
    np.testing.assert_allclose(shares.sum(1), 1, rtol=1e-5)
    compass = np.array([[1, 0], [-1, 0], [0, 1], [0, -1]], np.float32)
    classifier = KnnClassifier(compass, np.array([0, 1, 0, 1]), neighbours=3, temperature=1.0)
    votes = np.exp([0.8, 0.6, -0.6])  # the similarities of the three nearest; two are of class 0
    asked = classifier.probabilities(np.array([[8, 6]], np.float32))
    np.testing.assert_allclose(asked, [[votes[:2].sum() / votes.sum(), votes[2] / votes.sum()]], rtol=1e-5)
    single = KnnClassifier(known[[0, 2]], np.array([0, 1]))  # one example a class: a few-shot classifier
    assert single.probabilities(known).argmax(1).tolist() == [0, 0, 1, 1]
    with pytest.raises(InputError, match="0 examples"):
        KnnClassifier(known[:0], np.zeros(0, np.int64))


def test_probe_tells_classes_that_look_different(tmp_path: Path) -> None:
    for split, count in (("train", 8), ("val", 4)):
        for channel, name in enumerate(("blue", "green", "red")):
            folder = tmp_path / split / name
            folder.mkdir(parents=True)
            for index in range(count):
                image = noise(index, 64, 64) // 4
                image[..., channel] += 160
                cv2.imwrite(str(folder / f"{index}.png"), image)
    torch.manual_seed(0)
    backbone = Backbone(ModelConfig(num_classes=1))
    dataset = read_dataset(tmp_path)
    pictures = dataset.images("train")
    fit_batch_norms(backbone, plain_batches(pictures, image_size=64, batch=24, device=torch.device("cpu")))
    probe = probe_backbone(backbone, dataset, image_size=64)
    assert (probe.examples, probe.queries, probe.chance) == (24, 12, pytest.approx(1 / 3))
    assert probe.accuracy == 1
    assert probe.shots[5] >= probe.shots[1] > 0.6
    assert probe == probe_backbone(backbone, dataset, image_size=64)


def test_probe_looks_at_objects_and_needs_two_classes(backbone: Backbone, data: Path) -> None:
    dataset = read_dataset(data)
    probe = probe_backbone(backbone, dataset, image_size=64)
    assert probe.examples == sum(len(sample) for sample in dataset.samples("train"))
    assert 0 <= probe.accuracy <= 1
    lone = replace(dataset, splits={**dataset.splits, "val": ()})
    with pytest.raises(DatasetError, match="0 class"):
        probe_backbone(backbone, lone, image_size=64)


def test_embedding_does_not_depend_on_the_company(backbone: Backbone) -> None:
    pictures = [noise(index, 70, 64) for index in range(3)]
    together = embed(backbone, pictures, image_size=64)
    assert together.shape == (3, 256)
    np.testing.assert_allclose(embed(backbone, pictures[1:2], image_size=64), together[1:2], rtol=1e-3, atol=1e-3)


# --- the command ------------------------------------------------------------------------------------------------------


def test_command_probes_before_and_after(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    options = ["--epochs", "1", "--batch", "4", "--imgsz", "64", "--workers", "0", "--device", "cpu"]
    result = CliRunner().invoke(
        app, ["pretrain", "--data", str(data), "--probe", str(data), "--out", str(out), *options]
    )
    assert result.exit_code == 0, result.output
    for text in ("random weights", "backbone.safetensors", "5 pictures", "epoch   1/1", "yolo12edge train --model n"):
        assert text in result.output, text
    error = CliRunner().invoke(app, ["pretrain", "--resume", str(out), "--epochs", "2"]).exception
    assert isinstance(error, InputError)
    assert "--epochs" in error.fact
    assert isinstance(CliRunner().invoke(app, ["pretrain"]).exception, InputError)
    assert isinstance(CliRunner().invoke(app, ["pretrain", "--resume", str(tmp_path)]).exception, InputError)
    again = CliRunner().invoke(app, ["pretrain", "--resume", str(out)])  # nothing is left to do
    assert again.exit_code == 0, again.output


def test_network_of_the_backbone_is_the_network(backbone: Backbone) -> None:
    model = build_model(backbone.config).eval()
    model.load_state_dict(backbone.state_dict(), strict=False)
    images = torch.rand(1, 3, 64, 64)
    seen: list[Tensor] = []
    model.model[8].register_forward_hook(lambda module, inputs, output: seen.append(output))
    with torch.no_grad():
        model(images)
        torch.testing.assert_close(backbone.eval()(images)[2], seen[0])
