"""Atomic writes, hashes and resources that close."""

from __future__ import annotations

import hashlib
import os
import tempfile
from pathlib import Path

import pytest

from siamtrack.errors import OutputError
from siamtrack.tracking.result import Result
from siamtrack.utils.files import (
    Closing,
    TemporaryFolder,
    atomic_path,
    atomic_write,
    sha256,
    walk_files,
)
from siamtrack.video.tables import CsvSink, read_table


@pytest.mark.parametrize("content", ["text: é\n", b"\x00\xff"])
def test_a_whole_file_is_written_and_replaces_the_old_one(
    tmp_path: Path, content: str | bytes
) -> None:
    path = tmp_path / "new" / "folder" / "file"
    atomic_write(path, "old")
    atomic_write(path, content)
    assert path.read_bytes() == (content.encode() if isinstance(content, str) else content)
    assert list(path.parent.iterdir()) == [path]


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    path.write_text("old")

    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(OutputError, match=r"cannot write .*file: Permission denied; move it"):
        atomic_write(path, "new", "move it")
    with pytest.raises(OutputError, match=r"Permission denied$"):
        atomic_write(path, "new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("is_folder", [False, True])
def test_a_path_appears_only_when_the_block_has_ended(tmp_path: Path, is_folder: bool) -> None:
    path = tmp_path / "new" / "result.mp4"
    with atomic_path(path) as part:
        assert part.suffix == ".mp4" and part.parent == path.parent
        if is_folder:
            part.mkdir()
            (part / "inside").write_text("x")
        else:
            part.write_text("x")
        assert not path.exists()
    assert path.exists()
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("is_folder", [False, True])
def test_a_block_that_raises_leaves_nothing_of_its_own(tmp_path: Path, is_folder: bool) -> None:
    path = tmp_path / "result"
    if not is_folder:
        path.write_text("old")
    with pytest.raises(ValueError, match="trouble"), atomic_path(path) as part:
        if is_folder:
            part.mkdir()
            (part / "inside").write_text("x")
        else:
            part.write_text("new")
        raise ValueError("trouble")
    assert [p.read_text() for p in tmp_path.iterdir()] == ([] if is_folder else ["old"])


def test_the_hash_is_that_of_the_content(tmp_path: Path) -> None:
    data = bytes(range(256)) * 9999
    (tmp_path / "file").write_bytes(data)
    assert sha256(tmp_path / "file") == hashlib.sha256(data).hexdigest()
    with pytest.raises(OSError, match="No such file"):
        sha256(tmp_path / "gone")


def test_a_resource_is_closed_after_success_and_after_an_error() -> None:
    class Resource(Closing):
        closed = 0

        def close(self) -> None:
            self.closed += 1

    with Resource() as resource:
        assert resource.closed == 0
    assert resource.closed == 1
    with pytest.raises(ValueError, match="trouble"), resource:
        raise ValueError("trouble")
    assert resource.closed == 2
    with pytest.raises(NotImplementedError):
        Closing().close()


def test_folders_are_walked_through_links_but_not_in_circles(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "a.png").touch()
    root = tmp_path / "root"
    (root / "inner").mkdir(parents=True)
    (root / "b.png").touch()
    (root / "dog").symlink_to(tmp_path / "elsewhere")
    (root / "inner" / "back").symlink_to(root)
    (tmp_path / "elsewhere" / "over").symlink_to(root / "inner")
    (root / "gone.png").symlink_to(tmp_path / "nothing")
    assert list(walk_files(root)) == [root / "b.png", root / "dog" / "a.png"]


def test_a_folder_that_may_not_be_read_is_passed_by(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: Path) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "iterdir", refuse)
    assert list(walk_files(tmp_path)) == []


def test_bytes_of_file_names_that_are_no_text_are_written_in_words(tmp_path: Path) -> None:
    """Older systems wrote names in the encoding of their country: `Köln` in Latin-1."""
    name = os.fsdecode(b"K\xf6ln")
    atomic_write(tmp_path / "list.txt", name)
    assert (tmp_path / "list.txt").read_text(encoding="utf-8") == r"K\udcf6ln"
    with CsvSink(tmp_path / "o.csv", pictures=True) as table:
        table.write(0, 0.0, {0: Result((1.0, 2.0, 3.0, 4.0), 1.0, "tracked")}, name)
    (row,) = read_table(tmp_path / "o.csv")
    assert row.picture == r"K\udcf6ln"


def test_a_temporary_folder_is_there_from_its_first_use_to_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with TemporaryFolder("mine-"), TemporaryFolder("mine-") as folder:
        assert not list(tmp_path.iterdir())
        (folder.path / "file").write_text("x")
        assert list(tmp_path.glob("mine-*/file")) == [folder.path / "file"]
    assert not list(tmp_path.iterdir())
    with pytest.raises(OutputError, match="ends"):
        folder.path  # noqa: B018
    with TemporaryFolder("mine-") as folder:
        monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "gone"))
        with pytest.raises(OutputError, match="TMPDIR"):
            folder.path  # noqa: B018
