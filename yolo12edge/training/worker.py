"""One of the other processes of a run on several devices: ``python -m yolo12edge.training.worker RUN [--resume]``."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from pathlib import Path
from threading import Thread

from ..errors import Yolo12EdgeError

__all__ = ["main"]


def main(arguments: list[str]) -> int:
    """Take part in a run whose first process has written its configuration."""
    from .config import TrainConfig
    from .trainer import resume, train

    Thread(target=_end_with_parent, daemon=True).start()
    root = Path(arguments[0])
    try:
        if "--resume" in arguments:
            resume(root)
        else:
            train(replace(TrainConfig.of_run(root), out=root))
    except Yolo12EdgeError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return 0


def _end_with_parent() -> None:
    """End this process when the first one, which holds the other end of the pipe, is gone, however it went.

    The pipe is read by its number: a read through ``sys.stdin`` holds a lock that loader processes, which are forked
    meanwhile and close theirs, would wait for without end.
    """
    while os.read(0, 1):
        pass
    os._exit(1)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
