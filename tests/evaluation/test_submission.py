"""Test sets whose truth is withheld: run, pack, submit."""

from __future__ import annotations

import zipfile

import pytest

from siamtrack.errors import EvaluationError
from siamtrack.evaluation.evaluate import prepare, run, write_submission
from siamtrack.evaluation.task import RunConfig
from siamtrack.evaluation.trackers import TrackerSpec

NAMES = {"GOT-10k_Test_000001": 7, "GOT-10k_Test_000002": 5}


@pytest.fixture
def evaluation(got10k, trackers_file, tmp_path):
    root = got10k("test", NAMES)
    spec = TrackerSpec(f"{trackers_file}:Drift")
    return prepare(RunConfig("got10k-test", root, tmp_path / "out", (spec,)))


def test_the_archive_is_what_the_server_expects(evaluation):
    assert run(evaluation) == []
    path = write_submission(evaluation, evaluation.trackers[0])
    with zipfile.ZipFile(path) as archive:
        assert sorted(archive.namelist()) == sorted(
            f"{name}/{name}_{part}.txt" for name in NAMES for part in ("001", "time")
        )
        rows = archive.read("GOT-10k_Test_000001/GOT-10k_Test_000001_001.txt").decode().split()
    first = evaluation.sequences["GOT-10k_Test_000001"].truth.boxes_xywh[0]
    assert len(rows) == 7 and rows[0] == ",".join(f"{v:.3f}" for v in first)
    before = path.read_bytes()
    assert write_submission(evaluation, evaluation.trackers[0]).read_bytes() == before


def test_an_incomplete_archive_is_not_written(evaluation):
    with pytest.raises(EvaluationError, match="no result for 2 of 2 sequences"):
        write_submission(evaluation, evaluation.trackers[0])
