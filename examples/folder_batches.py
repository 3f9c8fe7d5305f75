"""Detect in all pictures of a folder, several in one call, and write the results as COCO's JSON.

With ``--annotations`` the ids of images and categories are those of a COCO file, and COCO's own tools can score the
results; without it an image's id is its file name and a category's is the class index. A picture that cannot be read is
named, left out, and makes the exit code 1.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from yolo12edge import Runtime, Thresholds, Yolo12EdgeError
from yolo12edge.adaptors import to_coco_results, write_coco_results
from yolo12edge.data.coco import read_coco
from yolo12edge.errors import InputError
from yolo12edge.imaging import list_images, read_image


def batches(paths: list[Path], size: int, unread: list[Path]) -> Iterator[list[tuple[Path, npt.NDArray[np.uint8]]]]:
    """Yield lists of ``size`` pictures, the last one shorter; what cannot be read is added to ``unread``."""
    batch = []
    for path in paths:
        try:
            batch.append((path, read_image(path)))
        except InputError as error:
            print(error, file=sys.stderr)
            unread.append(path)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


def main() -> int:
    """Detect, write, and say how fast it went; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="artifact, model file or checkpoint")
    parser.add_argument("folder", type=Path, help="pictures; folders in it are not searched")
    parser.add_argument("--batch", type=int, default=8, help="pictures a call (default: 8)")
    parser.add_argument("--confidence", type=float, default=0.25, help="lowest confidence; 0.001 to be scored")
    parser.add_argument("--annotations", type=Path, help="COCO file to take ids from")
    parser.add_argument("--out", type=Path, default=Path("results.json"), help="default: results.json")
    options = parser.parse_args()
    if options.batch < 1:
        parser.error("--batch must be at least 1")
    coco = read_coco(options.annotations) if options.annotations else None
    paths, unread, results, done = list_images(options.folder), [], [], 0
    if coco and (strangers := [path.name for path in paths if path.name not in coco.image_ids]):
        parser.error(f"{strangers[0]} and {len(strangers) - 1} others are not in {options.annotations}")
    thresholds = Thresholds(confidence=options.confidence)
    with Runtime(options.model) as runtime:
        names = runtime.manifest.class_names
        if coco and tuple(names) != coco.class_names:
            parser.error(f"the model's classes are {', '.join(names)}; the file's {', '.join(coco.class_names)}")
        categories = coco.category_ids if coco else range(len(names))
        start = time.perf_counter()
        for batch in batches(paths, options.batch, unread):
            found = runtime.batch([image for _, image in batch], thresholds=thresholds)
            for (path, _), detections in zip(batch, found, strict=True):
                image_id = coco.image_ids[path.name] if coco else path.name
                results += to_coco_results(detections, image_id=image_id, category_ids=categories)
            done += len(batch)
        seconds = time.perf_counter() - start
    write_coco_results(options.out, results)
    print(f"{options.out}: {len(results)} objects in {done} pictures, {done / seconds:.1f} pictures a second")
    return 1 if unread else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except Yolo12EdgeError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
