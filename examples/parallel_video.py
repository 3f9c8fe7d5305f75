"""Detect in several videos at once and lose no frame: one line of JSON a frame, in order, one file a video.

Each worker has a Runtime of its own with its share of the processor's cores, and takes one video after the other. In a
video, decoding, inference and writing overlap (``stream``), and nothing is ever dropped: the next frame waits. That
every frame is there once and in order is checked while it runs; a file is only there once its video is complete.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from queue import Queue

from yolo12edge import Runtime, Thresholds, Yolo12EdgeError
from yolo12edge.files import atomic_file
from yolo12edge.runtimes.cores import physical_cores
from yolo12edge.sources import open_source


def process(runtime: Runtime, video: Path, out: Path, thresholds: Thresholds) -> int:
    """Write what one video shows, and return its number of frames.

    Raises:
        RuntimeError: If a frame is missing or out of place.
        Yolo12EdgeError: If the video or a frame of it cannot be read; then there is no file.
    """
    names, count = runtime.manifest.class_names, 0
    with (
        atomic_file(out) as temporary,
        temporary.open("w", encoding="utf-8") as file,
        open_source(video, drop="none") as source,
        runtime.stream(source, drop="none", thresholds=thresholds) as results,
    ):
        for frame, detections in results:
            if frame.index != count:
                raise RuntimeError(f"{video}: frame {frame.index} came in the place of frame {count}")
            line = {"frame": frame.index, "objects": detections.to_records(names)}
            file.write(json.dumps(line) + "\n")
            count += 1
        if source.dropped or results.dropped:
            raise RuntimeError(f"{video}: {source.dropped + results.dropped} frames were dropped")
    return count


def plural(count: int, noun: str) -> str:
    """Return ``1 video`` or ``2 videos``."""
    return f"{count} {noun}{'' if count == 1 else 's'}"


def main() -> int:
    """Process all videos; return 1 if one of them failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="artifact, model file or checkpoint")
    parser.add_argument("videos", type=Path, nargs="+", help="video files")
    parser.add_argument("--workers", type=int, default=2, help="videos at the same time (default: 2)")
    parser.add_argument("--confidence", type=float, default=0.25, help="lowest confidence (default: 0.25)")
    parser.add_argument("--out", type=Path, default=Path("results"), help="folder for the results (default: results)")
    options = parser.parse_args()
    outs = [options.out / f"{video.stem}.jsonl" for video in options.videos]
    if len(set(outs)) != len(outs) or options.workers < 1:
        parser.error("--workers must be at least 1, and the videos need names of their own")
    workers = min(options.workers, len(outs))
    threads = max(1, physical_cores() // workers)
    thresholds, free, failed, total = Thresholds(confidence=options.confidence), Queue[Runtime](), 0, 0
    start = time.perf_counter()

    def work(video: Path, out: Path) -> int:
        runtime = free.get()
        try:
            return process(runtime, video, out, thresholds)
        finally:
            free.put(runtime)

    with ExitStack() as runtimes, ThreadPoolExecutor(workers) as pool:
        for _ in range(workers):
            free.put(runtimes.enter_context(Runtime(options.model, threads=threads)))
        jobs = [pool.submit(work, video, out) for video, out in zip(options.videos, outs, strict=True)]
        for video, out, job in zip(options.videos, outs, jobs, strict=True):
            if (error := job.exception()) is not None:
                failed += 1
                print(f"{video}: {error}", file=sys.stderr)
            else:
                total += job.result()
                print(f"{out}: {job.result()} frames", flush=True)
    seconds = time.perf_counter() - start
    crew = f"{plural(workers, 'worker')} of {plural(threads, 'thread')}"
    if workers < options.workers:
        crew += f", no more because there {'is' if workers == 1 else 'are'} {plural(len(outs), 'video')}"
    print(f"{plural(total, 'frame')} in {seconds:.1f} s, {total / seconds:.1f} a second, {crew}")
    return 1 if failed else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except Yolo12EdgeError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
