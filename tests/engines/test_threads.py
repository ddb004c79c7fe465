"""Default number of threads of an engine."""

from __future__ import annotations

import os
import threading

import pytest

from siamtrack.engines.graphs import default_threads
from siamtrack.engines.openvino_engine import OpenVinoEngine
from siamtrack.utils.files import sha256


@pytest.mark.parametrize(
    ("asked", "threads"), [("", 2), ("1", 1), ("2", 2), ("16", 2), ("0", 2), ("4,2", 2), ("-1", 2)]
)
def test_the_environment_lowers_the_threads_and_never_raises_them(asked, threads, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", asked)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)), raising=False)
    assert default_threads() == threads


def test_there_are_never_more_threads_than_cores(monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {3}, raising=False)
    assert default_threads() == 1
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert default_threads() == 1


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="needs Linux")
def test_an_engine_may_use_every_core_while_it_works(exported, responses):
    whole, seen, stop = os.sched_getaffinity(0), set(), threading.Event()
    worker = threading.get_native_id()

    def watch():
        while not stop.is_set():
            seen.add(frozenset(os.sched_getaffinity(worker)))

    watcher = threading.Thread(target=watch)
    engine = OpenVinoEngine(exported, sha256(exported), threads=1)
    watcher.start()
    try:
        for _ in range(20):
            responses(engine, 1, 1)
    finally:
        stop.set()
        watcher.join()
    assert seen == {frozenset(whole)}
