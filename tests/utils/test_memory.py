"""Freed memory."""

from __future__ import annotations

import subprocess
import sys

import pytest

# Eight threads free a large array each, and live on.
PROGRAM = """
import sys, threading
from pathlib import Path
import numpy as np
from siamtrack.utils.memory import return_freed_memory

if sys.argv[1] == "return":
    return_freed_memory()
freed, end = threading.Barrier(9), threading.Event()

def work():
    for size in (20 << 20, 21 << 20, 10 << 20):  # the first one raises what is not returned
        np.ones(size, np.uint8)
    freed.wait()
    end.wait()

def held():
    text = Path("/proc/self/smaps_rollup").read_text()
    return next(int(line.split()[1]) >> 10 for line in text.splitlines() if line[:4] == "Anon")

before = held()
threads = [threading.Thread(target=work) for _ in range(8)]
for thread in threads:
    thread.start()
freed.wait()
print(held() - before)
end.set()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the C library of Linux")
def test_arrays_that_are_freed_are_returned_by_every_thread() -> None:
    command = [sys.executable, "-c", PROGRAM, "return"]
    held = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert int(held) < 10
