"""The same batch on a Dask cluster that loses workers, and what a cluster may lack."""

from __future__ import annotations

import os
import re
import shutil
import signal

import pytest

from siamtrack.batch.run import prepare_batch, run_batch
from siamtrack.errors import ClusterError
from siamtrack.models.weights import find_weights, weights_dir
from siamtrack.utils import cluster as cluster_module
from siamtrack.utils.cluster import ClusterPool
from tests.batch.common import tables

distributed = pytest.importorskip("distributed", reason="siamtrack[distributed] is not installed")

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::UserWarning")

TARGET = '''
import os
import signal
from pathlib import Path


def work(setup, task, heartbeat):
    """Do what the task says."""
    heartbeat(0)
    if task == "die":
        os._exit(3)
    if task == "kill":
        os.kill(os.getppid(), signal.SIGKILL)
        heartbeat(1)
    if task == "die once" and not Path(setup["mark"]).exists():
        Path(setup["mark"]).touch()
        os._exit(3)
    return task
'''


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    """A scheduler and two worker processes on this machine, which find the target above."""
    folder = tmp_path_factory.mktemp("target")
    (folder / "cluster_target.py").write_text(TARGET)
    with pytest.MonkeyPatch.context() as patch:
        path = os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")])
        patch.setenv("PYTHONPATH", path)
        with distributed.LocalCluster(
            n_workers=2,
            threads_per_worker=1,
            dashboard_address=None,
        ) as made:
            yield made.scheduler_address


def test_own_weights_travel_and_a_killed_worker_changes_nothing(
    address, whole, manifest, config, tmp_path
):
    for file in weights_dir().glob("siamtrack-nano.*"):
        shutil.copy(file, tmp_path / file.name.replace("siamtrack-nano", "mine"))
    own = config(
        manifest(), options={}, weights=str(tmp_path / "mine.safetensors"), scheduler=address
    )
    batch, killed = prepare_batch(own), []

    def kill(clip, record):
        if not killed:
            # Without the file, only what was sent can be used.
            for file in tmp_path.glob("mine.*"):
                file.unlink()
            with distributed.Client(address) as client:
                pids, busy = client.run(os.getpid), client.processing()
                killed.append(pids[max(busy, key=lambda worker: len(busy[worker]))])
            os.kill(killed[0], signal.SIGKILL)

    run_batch(batch, kill)
    assert killed
    assert batch.counts() == {"done": 4}
    assert tables(own.out) == whole
    with distributed.Client(address) as client:  # nothing is left behind
        assert not any(
            name.startswith("siamtrack")
            for names in client.run(lambda dask_worker: list(dask_worker.plugins)).values()
            for name in names
        )


def results_of(pool, groups):
    found = {}

    def store(task, result, failure, worker):
        found[task] = result or str(failure)

    pool.run(groups, store)
    return found


def test_tasks_that_end_their_process_cost_only_themselves(address, tmp_path):
    setup = {"mark": str(tmp_path / "mark")}
    with ClusterPool("cluster_target:work", setup, address, "test", retries=1) as pool:
        found = results_of(pool, iter([["a", "die", "b"], ["die once"]]))
    assert found.pop("die") == "its process died after frame 0 (exit code 3)"
    assert found == {"a": "a", "b": "b", "die once": "die once"}


@pytest.mark.timeout(120, method="signal")
def test_a_task_that_ends_every_worker_that_gets_it_is_named(address):
    def allow(failures, dask_scheduler):
        before, dask_scheduler.allowed_failures = dask_scheduler.allowed_failures, failures
        return before

    with (
        distributed.Client(address) as client,
        ClusterPool("cluster_target:work", {}, address, "test", retries=0) as pool,
    ):
        before = client.run_on_scheduler(allow, 1)
        try:
            found = results_of(pool, [["kill"]])
        finally:
            client.run_on_scheduler(allow, before)
        told = r"2 worker\(s\) of the cluster died with it, the last one tcp://\S+; see their logs"
        assert re.match(told, found["kill"])
        assert results_of(pool, [["a"], ["b"]]) == {"a": "a", "b": "b"}  # the cluster goes on


def test_workers_that_cannot_be_used_are_named(address, monkeypatch):
    monkeypatch.setattr(cluster_module, "__version__", "0.0")
    with pytest.raises(ClusterError, match=r"worker tcp://\S+ has siamtrack .*, this is 0\.0;"):
        ClusterPool("cluster_target:work", {}, address, "test")


def test_a_worker_that_joins_late_with_another_version_refuses(address, monkeypatch):
    from siamtrack.utils import cluster_worker

    monkeypatch.setattr(cluster_worker, "__version__", "0.0")
    with ClusterPool("cluster_target:work", {}, address, "test") as pool:
        found = results_of(pool, [["a", "b"]])
    assert sorted(found) == ["a", "b"]
    assert all("the client 0.0; install the same version" in text for text in found.values())


def test_a_cluster_without_workers_is_reported(monkeypatch):
    monkeypatch.setattr(cluster_module, "CONNECT_TIMEOUT_S", 1)
    with (
        distributed.LocalCluster(n_workers=0, dashboard_address=None) as empty,
        pytest.raises(ClusterError, match="has no workers; start some with dask worker tcp://"),
    ):
        ClusterPool("cluster_target:work", {}, empty.scheduler_address, "test")


def test_a_cluster_that_loses_all_its_workers_or_its_scheduler_ends_the_run(
    address, monkeypatch, caplog
):
    monkeypatch.setattr(cluster_module, "LOOK_S", 0.1)
    monkeypatch.setattr(cluster_module, "NO_WORKERS_S", 0.5)
    for lost, said in (
        ("workers", r"has had no worker for 0 s; .* dask worker tcp://\S+, and give the same comm"),
        ("scheduler", r"the scheduler at tcp://\S+ ended, or forgot its tasks; start it again"),
    ):
        own = distributed.LocalCluster(
            n_workers=1, threads_per_worker=1, processes=False, dashboard_address=None,
            host="tcp://127.0.0.1",
        )  # fmt: skip
        finished = []

        def lose(task, result, failure, worker, own=own, finished=finished, lost=lost):
            finished.append(task)
            own.sync(own.scheduler.close) if lost == "scheduler" else own.scale(0)

        with own:
            with (
                ClusterPool("cluster_target:work", {}, own.scheduler_address, "test") as pool,
                pytest.raises(ClusterError, match=said),
            ):
                pool._client._timeout = 0.5  # how long it tries to connect again
                pool.run([[name] for name in "abcdefghij"], lose)
        assert 1 <= len(finished) < 10
    assert "has no worker left; waiting 0 s for one: dask worker tcp://" in caplog.text


def test_a_worker_without_siamtrack_is_reported(address, monkeypatch):
    from siamtrack.utils import cluster_worker

    def missing():
        raise ModuleNotFoundError("No module named 'siamtrack'")

    monkeypatch.setattr(cluster_worker, "installed_version", missing)
    with pytest.raises(
        ClusterError, match=r"cannot import siamtrack .*No module named 'siamtrack'"
    ):
        ClusterPool("cluster_target:work", {}, address, "test")


def test_bundled_weights_are_not_sent(manifest, config):
    from siamtrack.batch.run import _weights_files

    assert _weights_files(prepare_batch(config(manifest("a")))) == {}
    assert find_weights("siamtrack-nano").is_file()
