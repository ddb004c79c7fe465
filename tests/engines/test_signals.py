"""Whether a program that used an engine can still be stopped."""

from __future__ import annotations

import subprocess
import sys

import pytest

# What is made first also goes first: an engine that gives the thread a stack for signals and takes
# it away again must not leave a freed one behind.
PROGRAM = """
import gc, signal, sys
import siamtrack

path, engine = sys.argv[1:]
trackers = [siamtrack.load(path, device="cpu", engine=engine) for _ in range(3)]
while trackers:
    trackers.pop(0)
    gc.collect()
signal.signal(signal.SIGINT, lambda number, frame: sys.exit("stopped as asked"))
signal.raise_signal(signal.SIGINT)
"""


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["onnx", "openvino"])
def test_an_interrupt_reaches_a_program_whose_trackers_are_gone(engine, exported):
    program = [sys.executable, "-c", PROGRAM, str(exported), engine]
    ended = subprocess.run(program, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stderr.strip()[-40:]) == (1, "stopped as asked")
