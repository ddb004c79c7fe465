"""The same evaluation on a Dask cluster, one of whose workers dies in the middle."""

from __future__ import annotations

import os
import signal
import sys

import pytest

from siamtrack.errors import ClusterError, ConfigError
from siamtrack.evaluation.evaluate import prepare, run
from siamtrack.evaluation.task import RunConfig
from siamtrack.evaluation.trackers import TrackerSpec
from siamtrack.utils import cluster as cluster_module

distributed = pytest.importorskip("distributed", reason="siamtrack[distributed] is not installed")

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::UserWarning")


@pytest.fixture(scope="module")
def cluster():
    """Scheduler and two worker processes on this machine."""
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None
    ) as made:
        yield made


def evaluation_of(root, out, *names, **options):
    return prepare(RunConfig("clips", root, out, tuple(map(TrackerSpec, names)), **options))


def boxes_of(out):
    return {p.name: p.read_bytes() for p in out.rglob("*.txt") if "times" not in p.parts}


class KillOneWorker:
    """After the first results, kills the cluster's worker process that has most to do."""

    def __init__(self, scheduler):
        self.scheduler, self.killed = scheduler, None

    def on_frame(self, worker, task, frame):
        raise AssertionError("frames are not reported from elsewhere")

    def on_result(self, worker, result):
        if self.killed is None:
            with distributed.Client(self.scheduler) as client:
                pids = client.run(os.getpid)
                busy = client.processing()
                self.killed = pids[max(busy, key=lambda address: len(busy[address]))]
            os.kill(self.killed, signal.SIGKILL)


def test_a_cluster_that_loses_a_worker_equals_local_runs(cluster, clips, trackers_file, tmp_path):
    root = clips({name: 6 + index for index, name in enumerate("abcdefgh")})
    drift, raises = (f"{trackers_file}:{kind}" for kind in ("Drift", "Raises"))
    address = cluster.scheduler_address
    remote = evaluation_of(root, tmp_path / "remote", drift, raises, scheduler=address)
    watcher = KillOneWorker(address)
    failures = run(remote, watcher.on_frame, watcher.on_result)
    assert watcher.killed is not None
    assert {f.error for f in failures} == {"frame 1: update raised ValueError: no idea"}
    assert len(failures) == 8
    assert run(evaluation_of(root, tmp_path / "here", drift, workers=2)) == []
    assert len(boxes_of(tmp_path / "here")) == 8
    assert boxes_of(tmp_path / "remote") == boxes_of(tmp_path / "here")


def test_files_of_trackers_are_sent_by_full_paths(
    cluster, clips, trackers_file, tmp_path, monkeypatch
):
    root = clips({"a": 4})
    monkeypatch.chdir(trackers_file.parent)  # where the cluster's workers are not
    relative = f"{trackers_file.name}:Drift"
    evaluation = evaluation_of(
        root, tmp_path / "out", relative, scheduler=cluster.scheduler_address
    )
    done = []
    assert run(evaluation, on_result=lambda worker, result: done.append(result)) == []
    assert [result.task.tracker.name for result in done] == [relative]


def test_an_unreachable_scheduler_is_reported(clips, tmp_path, monkeypatch):
    monkeypatch.setattr(cluster_module, "CONNECT_TIMEOUT_S", 1)
    root, out = clips({"a": 4}), tmp_path / "out"
    with pytest.raises(ClusterError, match=r"no Dask scheduler answers at tcp://127\.0\.0\.1:9"):
        run(evaluation_of(root, out, "identity", scheduler="tcp://127.0.0.1:9"))
    with pytest.raises(ClusterError, match="no Dask scheduler answers at nonsense://"):
        run(evaluation_of(root, out, "identity", scheduler="nonsense://x"))


def test_a_missing_dask_is_named(clips, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    root, out = clips({"a": 4}), tmp_path / "out"
    with pytest.raises(ConfigError, match="pip install dask distributed"):
        run(evaluation_of(root, out, "identity", scheduler="tcp://127.0.0.1:9"))
