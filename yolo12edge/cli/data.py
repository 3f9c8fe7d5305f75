"""``yolo12edge data``: look at a dataset, find copies in it, split it, and write it in another format."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from ..reports.formats import plural

if TYPE_CHECKING:
    from ..data.dataset import Dataset
    from ..data.labels import Problem
    from ..data.tools.copies import Copies
    from ..data.tools.pictures import PictureFacts
    from ..manifest import Task

__all__ = ["app", "check", "convert", "dedupe", "preview", "split", "stats"]

app = typer.Typer(
    help="Look at a dataset, find copies in it, split it, write it in another format.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
)

_TASKS = Literal["detect", "segment", "classify", "pose", "obb"]
_DATA = typer.Argument(help="A data.yaml, a folder with one, or a folder of class folders or tables.")
_TASK = typer.Option("--task", help="What the labels are for.", show_default="what the dataset says")
_JSON = typer.Option("--json", help="Print JSON.")
_SEED = typer.Option(help="The same seed chooses the same pictures.")
_DISTANCE = typer.Option(
    min=0,
    max=16,
    help="Bits of 64 in which the perceptual hashes of copies may differ.",
)
_EXACT = typer.Option("--exact", help="Only files of the same bytes are copies.")
_FOUND = 1
_SHOWN = 20


@app.command()
def check(
    data: Annotated[Path, _DATA],
    *,
    task: Annotated[_TASKS | None, _TASK] = None,
    full: Annotated[bool, typer.Option("--full", help="Decode every picture, and look for near copies.")] = False,
    json: Annotated[bool, _JSON] = False,
) -> None:
    """Look for everything that is wrong with a dataset, by file and line.

    Exit code 1 says that there are errors, which training refuses.
    """
    from ..data.report import check_dataset
    from ..data.tools.copies import find_copies
    from ..data.tools.pictures import digests_in
    from ._console import out, plain, progress

    dataset = _read(data, task)
    splits = [*dict.fromkeys(["train", "val", *dataset.splits])]
    with progress("Checking", unit="images") as steps:
        report = check_dataset(dataset, splits=splits, full=full, progress=steps.update)
    problems = [*report.problems]
    if full:
        copies = find_copies(dataset, digests_in(_survey(dataset)))
        problems += [_leak(group) for group in copies if len(group.splits) > 1 and not group.exact]
    if json:
        out.print_json(data={"dataset": str(dataset.path), "problems": [_plain_problem(one) for one in problems]})
    else:
        for problem in sorted(problems, key=lambda one: one.severity):
            out.print(plain(problem, "red" if problem.severity == "error" else "yellow"), soft_wrap=True)
        warnings = len(problems) - len(report.errors)
        told = (
            f"{dataset.path}: task {dataset.task}, {plural(len(report.errors), 'error')}, {plural(warnings, 'warning')}"
        )
        out.print(plain(told if full else f"{told}; --full looks for near copies, too"), soft_wrap=True)
        if report.errors:
            out.print(plain(f"Remedy: {report.remedy}"), soft_wrap=True)
    if report.errors:
        raise typer.Exit(_FOUND)


@app.command()
def stats(
    data: Annotated[Path, _DATA],
    *,
    out: Annotated[
        Path | None, typer.Option(help="Folder for statistics.html, .md, .json and pictures with labels.")
    ] = None,
    task: Annotated[_TASKS | None, _TASK] = None,
    json: Annotated[bool, _JSON] = False,
) -> None:
    """Count what is in a dataset: pictures, classes, boxes, and what is there more than once."""
    import msgspec

    from ..data.preview import draw_samples
    from ..data.tools.copies import find_copies
    from ..data.tools.counting import statistics_of
    from ..data.tools.pictures import digests_in
    from ..data.tools.statistics_page import statistics_page
    from ..data.tools.statistics_text import statistics_markdown
    from ..files import atomic_file
    from ..imaging.images import write_image
    from . import _console

    dataset = _read(data, task)
    found = _survey(dataset)
    statistics = statistics_of(dataset, found, find_copies(dataset, digests_in(found)))
    text = msgspec.json.format(msgspec.json.encode(statistics), indent=2)
    if json:
        _console.out.print_json(text.decode())
    else:
        for line in statistics_markdown(statistics).splitlines():
            _console.out.print(_console.plain(line), soft_wrap=True)
    if out is None:
        return
    pictures = {split: draw_samples(dataset, split) for split in found}
    drawn = {split: picture for split, picture in pictures.items() if picture is not None}
    for split, picture in drawn.items():
        write_image(out / f"{split}.png", picture)
    pages = {"html": statistics_page(statistics, drawn), "md": statistics_markdown(statistics), "json": text.decode()}
    for suffix, page in pages.items():
        with atomic_file(out / f"statistics.{suffix}") as path:
            path.write_text(page, encoding="utf-8")
    _console.console.print(_console.plain(f"Written: {out / 'statistics.html'}"), soft_wrap=True)


@app.command()
def dedupe(
    data: Annotated[Path, _DATA],
    *,
    out: Annotated[Path | None, typer.Option(help="Write a dataset without the copies: lists, no pictures.")] = None,
    move: Annotated[Path | None, typer.Option(help="Move the copies and their labels into this new folder.")] = None,
    distance: Annotated[int, _DISTANCE] = 4,
    exact: Annotated[bool, _EXACT] = False,
    task: Annotated[_TASKS | None, _TASK] = None,
    json: Annotated[bool, _JSON] = False,
) -> None:
    """List pictures that show the same as another one; nothing is ever deleted.

    Of each group stays what accuracy is measured on, then what has the most labels. Exit code 1 says that there are
    copies and neither --out nor --move was given.
    """
    from ..data.tools.copies import Place, find_copies
    from ..data.tools.moving import move_out
    from ..data.tools.pictures import digests_in
    from ..data.tools.subsets import write_subset
    from ..errors import InputError
    from ..files import atomic_directory
    from . import _console

    if out is not None and move is not None:
        raise InputError("--out and --move were both given", remedy="use one: --out writes lists, --move moves files")
    dataset = _read(data, task)
    copies = find_copies(dataset, digests_in(_survey(dataset)), distance=None if exact else distance)
    redundant = [place for group in copies for place in group.redundant]
    if json:
        _console.out.print_json(data={"groups": [_plain_copies(group) for group in copies]})
    else:
        for group in copies:
            _console.out.print(_console.plain(_group_line(group)), soft_wrap=True)
        leaks = sum(len(group.splits) > 1 for group in copies)
        told = (
            f"{plural(len(redundant), 'copy', 'copies')} of other pictures in {plural(len(copies), 'group')}, "
            f"{leaks} of them in several splits"
        )
        _console.out.print(told, soft_wrap=True)
    if out is not None:
        gone = {(place.split, place.index) for place in redundant}
        choice = {
            split: [Place(split, i, path) for i, path in enumerate(images) if (split, i) not in gone]
            for split, images in dataset.splits.items()
        }
        with atomic_directory(out, overwrite=False) as folder:
            write_subset(dataset, choice, folder, home=out)
        _console.console.print(_console.plain(f"Written: {out / 'data.yaml'}"), soft_wrap=True)
    elif move is not None and redundant:
        kept = {place.path for group in copies for place in group.kept}
        written = move_out(dataset, [place for place in redundant if place.path not in kept], move)
        _console.console.print(_console.plain(f"Moved; {written} says from where"), soft_wrap=True)
    elif redundant and move is None:
        raise typer.Exit(_FOUND)


@app.command()
def split(
    data: Annotated[Path, _DATA],
    out: Annotated[Path, typer.Argument(help="Folder to make, for lists; pictures stay where they are.")],
    *,
    val: Annotated[float | None, typer.Option(min=0, max=1, help="Share to validate on.", show_default="0.2")] = None,
    test: Annotated[float, typer.Option(min=0, max=1, help="Share to test on; 0 leaves a test split as it is.")] = 0.0,
    folds: Annotated[int | None, typer.Option(min=2, max=100, help="Write so many folds, not one split.")] = None,
    distance: Annotated[int, _DISTANCE] = 4,
    exact: Annotated[bool, _EXACT] = False,
    seed: Annotated[int, _SEED] = 0,
    task: Annotated[_TASKS | None, _TASK] = None,
) -> None:
    """Deal the pictures of a dataset out anew: each split gets its share of every class, and copies stay together.

    The pictures of train and val are dealt out; those of test too, if --test is given.
    """
    from ..data.tools.copies import Place, find_copies
    from ..data.tools.pictures import digests_in
    from ..data.tools.splitting import fold_pictures, split_pictures
    from ..data.tools.subsets import write_subset
    from ..errors import InputError
    from ..files import atomic_directory
    from ._console import console, plain

    if folds is not None and (val is not None or test):
        raise InputError("--folds was given together with --val or --test", remedy="every fold validates on 1 / folds")
    share = 0.2 if val is None else val
    if folds is None and (share + test >= 1 or share + test <= 0):
        raise InputError(f"val and test are {share:g} and {test:g}", expected="shares that leave some to train on")
    dataset = _read(data, task)
    pool = [name for name in dataset.splits if name != "test" or test]
    copies = find_copies(dataset, digests_in(_survey(dataset)), distance=None if exact else distance)
    if folds is not None:
        choices = {
            f"fold-{n}": c for n, c in enumerate(fold_pictures(dataset, pool, copies, folds, seed=seed), start=1)
        }
    else:
        shares = {"train": 1 - share - test, "val": share, "test": test}
        wanted = {name: value for name, value in shares.items() if value > 0}
        choices = {"": split_pictures(dataset, pool, copies, wanted, seed=seed)}
    aside = {} if test or "test" not in dataset.splits else {"test": dataset.images("test")}
    with atomic_directory(out, overwrite=False) as folder:
        for name, choice in choices.items():
            left = {s: [Place(s, i, path) for i, path in enumerate(images)] for s, images in aside.items()}
            (folder / name).mkdir(exist_ok=True)
            write_subset(dataset, {**choice, **left}, folder / name, home=out.absolute() / name)
            told = ", ".join(f"{s} {len(places)}" for s, places in {**choice, **left}.items())
            console.print(plain(f"{out / name / 'data.yaml'}: {told}"), soft_wrap=True)
    groups = [[place for place in group.places if place.split in pool] for group in copies]
    largest = max(map(len, groups), default=0)
    smallest = 1 / folds if folds is not None else min(wanted.values())
    if largest > 1:
        several = plural(sum(len(group) > 1 for group in groups), "group")
        console.print(plain(f"Copies stay together: {several}, the largest of {largest} pictures"))
    if largest > max(1, smallest * sum(len(dataset.images(name)) for name in pool)):
        told = f"These are more than a split of {smallest:.0%} shall have; --exact or a smaller --distance parts them"
        console.print(plain(told, "yellow"), soft_wrap=True)
    leaking = sum(
        len(group) for group, all_of_it in zip(groups, copies, strict=True) if len(all_of_it.places) > len(group)
    )
    if leaking:
        told = (
            f"{leaking} pictures are copies of pictures in `test`, which stays as it is; `data dedupe` takes them out"
        )
        console.print(plain(told, "yellow"), soft_wrap=True)


@app.command()
def convert(
    data: Annotated[Path, typer.Argument(help="A data.yaml (label files, COCO), class folders, or Pascal VOC.")],
    out: Annotated[Path, typer.Argument(help="Folder to make.")],
    *,
    to: Annotated[Literal["yolo", "coco", "voc"], typer.Option(help="The format to write.")],
    link: Annotated[bool, typer.Option("--link", help="Link the pictures in place of copying them.")] = False,
    task: Annotated[_TASKS | None, _TASK] = None,
) -> None:
    """Write a dataset in another format, and say what that cannot hold."""
    from ..data.tools.conversion import convert as write
    from ..data.tools.conversion import read_any
    from ._console import console, plain

    collection = read_any(data, task=task)
    lost = write(collection, out, to=to, link=link)
    for note in (*collection.notes, *lost):
        console.print(plain(f"Note: {note}", "yellow"), soft_wrap=True)
    images = sum(map(len, collection.splits.values()))
    console.print(plain(f"Written: {out}, {images} images of {', '.join(collection.splits)}"), soft_wrap=True)


@app.command()
def preview(
    data: Annotated[Path, _DATA],
    out: Annotated[Path, typer.Argument(help="The picture to write, .png or .jpg.")],
    *,
    augment: Annotated[str, typer.Option(help="A preset, or a YAML file of one's own.")] = "base",
    imgsz: Annotated[int, typer.Option(min=32, max=2048, help="Side of the training pictures, pixels.")] = 640,
    seed: Annotated[int, _SEED] = 0,
    task: Annotated[_TASKS | None, _TASK] = None,
) -> None:
    """Draw training pictures as they are and as an augmentation makes them, labels included."""
    from ..data.augment import load_augmentation
    from ..data.preview import draw_augmented
    from ._console import console, plain

    dataset = _read(data, task)
    augmentation = load_augmentation(augment, task=dataset.task)
    draw_augmented(dataset, augmentation, out, image_size=imgsz, seed=seed)
    console.print(plain(f"Written: {out}"), soft_wrap=True)


def _read(data: Path, task: Task | None) -> Dataset:
    from ..data.dataset import read_dataset

    return read_dataset(data, task=task)


def _survey(dataset: Dataset, splits: list[str] | None = None) -> dict[str, list[PictureFacts | None]]:
    from ..data.tools.pictures import survey
    from ._console import progress

    with progress("Looking at pictures", unit="images") as steps:
        return survey(dataset, splits or list(dataset.splits), progress=steps.update)


def _leak(group: Copies) -> Problem:
    from ..data.labels import Problem
    from ..data.report import LEAK

    first = group.places[0]
    others = [place for place in group.places if place.split != first.split]
    named = ", ".join(str(place.path) for place in others[:3]) + (" …" if len(others) > 3 else "")
    where = " and ".join(f"`{split}`" for split in dict.fromkeys(place.split for place in others))
    return Problem("warning", first.path, None, f"nearly the same image as {named} in {where}; {LEAK}")


def _plain_problem(problem: Problem) -> dict[str, Any]:
    about = {"severity": problem.severity, "path": str(problem.path), "line": problem.line, "message": problem.message}
    return {**about, "tasks": list(problem.tasks)}


def _plain_copies(group: Copies) -> dict[str, Any]:
    def listed(places: Any) -> list[dict[str, str]]:
        return [{"split": place.split, "image": str(place.path)} for place in places]

    about = {"exact": group.exact, "labels_differ": group.labels_differ}
    return {"kept": listed(group.kept), "redundant": listed(group.redundant), **about}


def _group_line(group: Copies) -> str:
    kind = ("the same file" if group.exact else "nearly the same") + (", labels differ" if group.labels_differ else "")
    named = [f"{place.path} ({place.split})" for place in group.places[:_SHOWN]]
    return f"{named[0]} stays; {kind}: {', '.join(named[1:])}{' …' if len(group.places) > _SHOWN else ''}"
