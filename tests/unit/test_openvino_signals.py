"""Signals reach a program after OpenVINO was used, whoever closed it."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

PROGRAM = """
import faulthandler, gc, os, signal, sys, threading
faulthandler.enable()  # Python's handlers run on the other stack where there is one
from yolo12edge import Runtime
runtime = Runtime(sys.argv[1], device="cpu", threads=1)
thread = threading.Thread(target=runtime.close)
thread.start()
thread.join()
del runtime, thread
gc.collect()
seen = []
signal.signal(signal.SIGUSR1, lambda number, frame: seen.append(number))
os.kill(os.getpid(), signal.SIGUSR1)
print("seen", seen)
"""


@pytest.mark.skipif(not hasattr(signal, "SIGUSR1"), reason="this system has no such signals")
def test_a_signal_after_another_thread_closed_openvino_does_not_end_the_program(tiny_openvino):
    done = subprocess.run([sys.executable, "-c", PROGRAM, str(tiny_openvino.path)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.startswith("seen [")
