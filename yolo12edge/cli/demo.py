"""``yolo12edge demo``: the whole way on the bundled checkpoint, with nothing to bring along."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["demo"]

_CALIBRATION_SCENES, _SCORED_SCENES, _DRAWN_SCENES = 96, 150, 9
_SEED = 2  # another seed than that of the scenes which the checkpoint was trained on
_DRAWN_CONFIDENCE = 0.4
_MARK = ".yolo12edge-demo"  # tells the folder of a demo from one that only has the same names in it


def demo(
    *,
    out: Annotated[Path, typer.Option(help="Folder for scenes, artifacts and the picture; made anew.")] = Path(
        "demo-output"
    ),
) -> None:
    """Take the bundled detector to INT8, measure it beside float on unseen scenes, and draw what it finds."""
    from time import monotonic

    from ..assets import DEMO_CHECKPOINT
    from ..data.scenes import generate_scenes
    from ._console import console, progress
    from .export import export

    began = monotonic()
    scenes = _folder(out) / "scenes"
    with progress("Drawing scenes", _CALIBRATION_SCENES + _SCORED_SCENES, unit="scenes") as steps:
        dataset = generate_scenes(
            scenes, train=_CALIBRATION_SCENES, val=_SCORED_SCENES, size=320, seed=_SEED, progress=steps.update
        )
    export(DEMO_CHECKPOINT, int8=True, data=dataset.path, out=out)
    picture = out / "detections.jpg"
    _draw(out / f"{DEMO_CHECKPOINT.stem}-int8", dataset.images("val")[:_DRAWN_SCENES], picture)
    console.print(f"What INT8 finds on unseen scenes: {picture}", markup=False, soft_wrap=True)
    console.print(f"The demo took {monotonic() - began:.0f} s.")


def _folder(out: Path) -> Path:
    """Remove what an earlier demo left, and nothing else.

    Raises:
        InputError: If the folder holds something that is not the demo's.
    """
    from shutil import rmtree

    from ..assets import DEMO_CHECKPOINT
    from ..errors import InputError

    if out.exists() and (not out.is_dir() or (any(out.iterdir()) and not (out / _MARK).is_file())):
        raise InputError(f"{out} is there already, and no demo made it", remedy="choose another --out")
    stem = DEMO_CHECKPOINT.stem
    for name in ("scenes", f"{stem}-fp32", f"{stem}-int8"):
        if (out / name).is_dir():
            rmtree(out / name)
    for name in ("detections.jpg", f"{stem}.calibration.npz"):
        (out / name).unlink(missing_ok=True)
    out.mkdir(parents=True, exist_ok=True)
    (out / _MARK).touch()
    return out


def _draw(artifact: Path, images: tuple[Path, ...], picture: Path) -> None:
    from ..imaging.draw import draw_detections, label_grid
    from ..imaging.images import read_image, write_image
    from ..runtimes import Runtime
    from ..thresholds import Thresholds

    thresholds = Thresholds(confidence=_DRAWN_CONFIDENCE)
    with Runtime(artifact) as runtime:
        frames = [read_image(image) for image in images]
        names, keypoints = runtime.manifest.class_names, runtime.manifest.keypoints
        cells = [
            draw_detections(frame, runtime(frame, thresholds=thresholds), names, keypoints=keypoints)
            for frame in frames
        ]
    write_image(picture, label_grid(cells))
