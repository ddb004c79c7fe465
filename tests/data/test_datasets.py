"""Data sets by name: kinds, options, and parts that are missing."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path

import pytest

from siamtrack.data.datasets import KINDS, open_dataset
from siamtrack.errors import ConfigError, DatasetError

Writer = Callable[..., Path]


@pytest.fixture
def clips(tmp_path: Path, write_clip: Writer) -> Path:
    for name, count in (("long", 4), ("short", 2)):
        write_clip(tmp_path / "clips" / f"{name}.mp4", count)
        (tmp_path / "clips" / f"{name}.txt").write_text("1,2,3,4\n" * count)
    return tmp_path / "clips"


@pytest.mark.parametrize("spec", ["", "folder", "folder:", "folder:?partial=1"])
def test_a_malformed_name_is_refused(spec: str) -> None:
    with pytest.raises(ConfigError, match="is not KIND:ROOT"):
        open_dataset(spec)


def test_an_unknown_kind_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match="did you mean 'got10k'"):
        open_dataset("gto10k:/data")


def test_an_unknown_option_names_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="of got10k 'subste'; did you mean 'subset'"):
        open_dataset(f"got10k:{tmp_path}?subste=val")


def test_options_must_be_well_formed(tmp_path: Path) -> None:
    for query in ("subset", "subset=val&subset=test"):
        with pytest.raises(ConfigError, match="each option once as name=value"):
            open_dataset(f"got10k:{tmp_path}?{query}")
    with pytest.raises(ConfigError, match="partial is 0 or 1"):
        open_dataset(f"got10k:{tmp_path}?partial=yes")


@pytest.mark.parametrize("kind", KINDS)
def test_a_root_that_does_not_exist_is_named(tmp_path: Path, kind: str) -> None:
    with pytest.raises(DatasetError, match="nowhere: does not exist") as caught:
        open_dataset(f"{kind}:{tmp_path}/nowhere")
    assert [p.kind for p in caught.value.problems] == ["missing-folder"]


@pytest.mark.parametrize("kind", sorted(set(KINDS) - {"folder"}))
def test_a_root_that_is_a_file_is_refused(tmp_path: Path, kind: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DatasetError, match="is a file, a folder is needed"):
        open_dataset(f"{kind}:{tmp_path}/file")


@pytest.mark.parametrize("kind", KINDS)
def test_an_empty_root_is_refused(tmp_path: Path, kind: str) -> None:
    for spec in (f"{kind}:{tmp_path}", f"{kind}:{tmp_path}?partial=1"):
        with pytest.raises(DatasetError):
            open_dataset(spec)


def test_the_home_folder_is_understood(clips: Path, monkeypatch) -> None:
    monkeypatch.setenv("HOME", str(clips.parent))
    monkeypatch.setenv("USERPROFILE", str(clips.parent))
    assert len(open_dataset("folder:~/clips")) == 2


def test_missing_parts_are_refused_unless_asked_for(clips: Path, caplog) -> None:
    (clips / "long.txt").unlink()
    with pytest.raises(DatasetError, match=r"long\.mp4: has no boxes"):
        open_dataset(f"folder:{clips}")
    for dataset in (
        open_dataset(f"folder:{clips}", partial=True),
        open_dataset(f"folder:{clips}?partial=1"),
    ):
        assert dataset.names == ("short",)
        assert [p.kind for p in dataset.problems] == ["missing-annotation"]
    assert "left out 1 missing-annotation" in caplog.text


def test_a_dataset_can_be_pickled(clips: Path) -> None:
    dataset = pickle.loads(pickle.dumps(open_dataset(f"folder:{clips}")))
    assert [len(s) for s in dataset] == [4, 2]
