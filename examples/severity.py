"""Grade pictures by how much of each is covered by what a model finds: none, mild, moderate or severe.

THIS IS A DEMONSTRATION AND NO MEDICAL DEVICE. It counts pixels; it knows nothing of X-rays, patients or diseases, was
tested with none of them, and no decision about anybody's health may rest on it.

What is covered is the union of masks, or of boxes where the model gives no masks, so that nothing counts twice.
"""

from __future__ import annotations

import argparse
import sys
from bisect import bisect_right
from pathlib import Path

import numpy as np
import numpy.typing as npt

from yolo12edge import Detections, Runtime, Thresholds, Yolo12EdgeError
from yolo12edge.imaging import draw_detections, write_image
from yolo12edge.sources import open_source

GRADES = ("none", "mild", "moderate", "severe")


def covered(detections: Detections, image_hw: tuple[int, int]) -> npt.NDArray[np.bool_]:
    """Return which pixels of a picture lie in any object, bool (H, W)."""
    pixels = np.zeros(image_hw, np.bool_)
    if detections.mask is not None:
        for crop, (left, top) in zip(detections.mask.crops, detections.mask.offsets.tolist(), strict=True):
            pixels[top : top + crop.shape[0], left : left + crop.shape[1]] |= crop
    else:
        for left, top, right, bottom in np.rint(detections.xyxy).astype(int).tolist():
            pixels[top:bottom, left:right] = True
    return pixels


def grade(share: float, limits: tuple[float, float]) -> str:
    """Return the grade of a share of a picture; ``limits`` are where moderate and severe begin."""
    return GRADES[0] if share == 0 else GRADES[1 + bisect_right(limits, share)]


def main() -> None:
    """Grade all pictures of a source."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="artifact, model file or checkpoint")
    parser.add_argument("source", help="folder of pictures, picture or video")
    parser.add_argument("--moderate", type=float, default=0.1, help="share from which on it is moderate (default: 0.1)")
    parser.add_argument("--severe", type=float, default=0.3, help="share from which on it is severe (default: 0.3)")
    parser.add_argument("--confidence", type=float, default=0.25, help="lowest confidence (default: 0.25)")
    parser.add_argument("--out", type=Path, help="folder for pictures with what was found")
    options = parser.parse_args()
    if not 0 < options.moderate < options.severe <= 1:
        parser.error("--moderate and --severe are shares, and moderate is the smaller one")
    print("A demonstration, no medical device.", file=sys.stderr)
    counts = dict.fromkeys(GRADES, 0)
    thresholds = Thresholds(confidence=options.confidence)
    with Runtime(options.model) as runtime, open_source(options.source) as source:
        manifest = runtime.manifest
        if manifest.task == "classify":
            parser.error("a classifier says nothing of places; give a model that finds objects")
        for frame, detections in runtime.stream(source, thresholds=thresholds):
            share = float(covered(detections, frame.image.shape[:2]).mean())
            name = grade(share, (options.moderate, options.severe))
            counts[name] += 1
            print(f"{frame.index}: {name}, {share:.1%} covered by {len(detections)} found", flush=True)
            if options.out:
                picture = draw_detections(frame.image, detections, manifest.class_names, keypoints=manifest.keypoints)
                write_image(options.out / f"{frame.index:06d}-{name}.jpg", picture)
    print(", ".join(f"{name} {count}" for name, count in counts.items()))


if __name__ == "__main__":
    try:
        main()
    except Yolo12EdgeError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
