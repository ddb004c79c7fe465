"""The folder of a project: nothing acknowledged is lost, nothing damaged is overwritten."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from siamtrack.errors import DatasetError, OutputError
from siamtrack.studio import store as store_module
from siamtrack.studio.project import RunInfo, apply_edits
from siamtrack.studio.store import DiskError, ProjectStore

BOX = (1.0, 2.0, 30.0, 40.0)


def add(store: ProjectStore, name: str) -> int:
    """Make a target and keep it; returns the revision."""
    number = store.state.next_target
    edits = [["target", number, {"name": name}]]
    store.commit(edits, apply_edits(store.state, edits), f"new {name}", "hand")
    return store.revision


def names(store: ProjectStore) -> list[str]:
    return [info.name for info in store.state.targets.values()]


def test_it_is_there_again_after_closing_and_undo_goes_on(tmp_path: Path) -> None:
    with ProjectStore(tmp_path / "p") as store:
        assert store.is_new and store.undo() is None
        for name in "abc":
            add(store, name)
        store.undo()
        assert names(store) == ["a", "b"] and store.redo_text == "new c"
    with ProjectStore(tmp_path / "p") as store:
        assert not store.is_new and names(store) == ["a", "b"] and store.revision == 4
        assert store.undo_text == "new b" and store.redo()["text"] == "new c"
        assert names(store) == ["a", "b", "c"] and store.redo_text is None
        store.undo()
        store.undo()
    with ProjectStore(tmp_path / "p") as store:
        assert names(store) == ["a"] and store.redo_text == "new b"
        # A new operation ends what could be done again; its target has a number of its own.
        add(store, "d")
        assert store.redo() is None and list(store.state.targets) == [0, 3]


def test_a_killed_process_loses_nothing_that_it_acknowledged(tmp_path: Path) -> None:
    code = (
        "import sys, pathlib\n"
        "from siamtrack.studio.store import ProjectStore\n"
        "from siamtrack.studio.project import apply_edits\n"
        "store = ProjectStore(pathlib.Path(sys.argv[1]))\n"
        "while True:\n"
        "    n = store.state.next_target\n"
        "    edits = [['target', n, {'name': f't{n}' + 'x' * (n % 150)}]]\n"
        "    store.commit(edits, apply_edits(store.state, edits), 'new', 'hand')\n"
        "    print(store.revision, flush=True)\n"
    )
    for acknowledged in (1, 17, 230):
        process = subprocess.Popen(
            [sys.executable, "-c", code, str(tmp_path / "p")], stdout=subprocess.PIPE, text=True
        )
        last = [int(process.stdout.readline()) for _ in range(acknowledged)][-1]
        process.kill()
        last = max([last, *map(int, process.stdout.read().split())])
        process.stdout.close()
        process.wait()
        with ProjectStore(tmp_path / "p") as store:
            assert store.revision >= last
            # Every one is there, with what it was given.
            wanted = [f"t{n}" + "x" * (n % 150) for n in range(store.revision)]
            assert names(store) == wanted


@contextmanager
def full_disk(free_bytes: int, path: Path):
    """No file may grow beyond that of `path` and `free_bytes`."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + free_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_refuses_the_operation_and_damages_nothing(tmp_path: Path) -> None:
    with ProjectStore(tmp_path / "p") as store:
        add(store, "a")
        journal = tmp_path / "p" / "journal.jsonl"
        before = journal.read_bytes()
        with full_disk(10, journal):
            with pytest.raises(DiskError, match="nothing was changed"):
                add(store, "b")
        assert journal.read_bytes() == before and names(store) == ["a"] and store.revision == 1
        add(store, "c")  # there is room again
    with ProjectStore(tmp_path / "p") as store:
        assert names(store) == ["a", "c"] and store.notes == []


@pytest.mark.parametrize("torn", [b'{"r": 3, "do": [["tar', b"\x00\x00\x00", b'{"r": 3}'])
def test_a_last_line_that_was_cut_off_is_dropped(tmp_path: Path, torn: bytes) -> None:
    with ProjectStore(tmp_path / "p") as store:
        add(store, "a")
        store.abandon()
    with (tmp_path / "p" / "journal.jsonl").open("ab") as file:
        file.write(torn)
    with ProjectStore(tmp_path / "p") as store:
        assert names(store) == ["a"] and "cut off" in store.notes[0]
        add(store, "b")
    with ProjectStore(tmp_path / "p") as store:
        assert names(store) == ["a", "b"] and store.notes == []


def damage(path: Path, change) -> None:
    content = json.loads(path.read_bytes())
    change(content)
    path.write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda content: content.update(version=2, written_by="9.9"), "siamtrack 9.9 .* newer"),
        (lambda content: content.update(version="1"), "newer"),
        (lambda content: content.update(format="other"), "damaged"),
        (lambda content: content.pop("keys"), "damaged"),
        (lambda content: content.update(targets=[[0, {"size": 3}]]), "damaged"),
    ],
)
def test_a_newer_or_damaged_project_is_left_as_it_is(tmp_path, change, message) -> None:
    with ProjectStore(tmp_path / "p") as store:
        add(store, "a")
    damage(tmp_path / "p" / "project.json", change)
    before = {file: file.read_bytes() for file in (tmp_path / "p").glob("*.json*")}
    for _ in range(2):  # nor is it locked afterwards
        with pytest.raises(DatasetError, match=message):
            ProjectStore(tmp_path / "p")
    assert {file: file.read_bytes() for file in (tmp_path / "p").glob("*.json*")} == before


@pytest.mark.parametrize("line", [b"nonsense", b"[1]", b'{"r": 9, "by": "hand"}'])
def test_a_damaged_line_of_the_journal_is_named(tmp_path: Path, line: bytes) -> None:
    with ProjectStore(tmp_path / "p") as store:
        add(store, "a")
        add(store, "b")
        store.abandon()
    journal = tmp_path / "p" / "journal.jsonl"
    first, second = journal.read_bytes().splitlines()
    content = b"\n".join([first, line, second]) + b"\n"
    journal.write_bytes(content)
    with pytest.raises(DatasetError, match="line 2 is damaged"):
        ProjectStore(tmp_path / "p")
    assert journal.read_bytes() == content


def test_two_studios_cannot_open_one_project(tmp_path: Path) -> None:
    with ProjectStore(tmp_path / "p"):
        with pytest.raises(OutputError, match=r"is open in process \d+ on"):
            ProjectStore(tmp_path / "p")
    # A lock whose process is gone holds nobody off.
    (tmp_path / "p" / "lock").write_text("999999 on elsewhere\n")
    ProjectStore(tmp_path / "p").close()


def test_a_folder_that_cannot_be_made_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="--project DIR"):
        ProjectStore(tmp_path / "file" / "p")


def test_a_long_journal_is_cut_and_undo_reaches_as_far(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(store_module, "SNAPSHOT_EVERY", 4)
    monkeypatch.setattr(store_module, "KEPT_ENTRIES", 5)
    with ProjectStore(tmp_path / "p") as store:
        for k in range(12):
            add(store, f"t{k}")
        store.undo()
        store.undo()
        add(store, "last")
        whole = names(store)
    lines = (tmp_path / "p" / "journal.jsonl").read_text().splitlines()
    assert len(lines) < 12
    with ProjectStore(tmp_path / "p") as store:
        assert names(store) == whole == [*(f"t{k}" for k in range(10)), "last"]
        undone = 0
        while store.undo() is not None:
            undone += 1
        assert names(store) == whole[: len(whole) - undone] and 2 <= undone <= 5


def test_runs_that_were_being_tracked_are_found_again(tmp_path: Path, make_rows) -> None:
    info = RunInfo(0, 3, BOX, 1, 1, "000000")
    rows = make_rows(3, BOX, 5)
    with ProjectStore(tmp_path / "p") as store:
        name = store.new_file()
        path = store.begin_rows(name, info)
        path.write_bytes(rows.tobytes()[:-7])  # killed within a row
        store.abandon()
    with ProjectStore(tmp_path / "p") as store:
        assert store.unfinished_rows() == {name: info}
        assert store.finish_rows(name).tobytes() == rows[:4].tobytes()
        # Killed again before it was in the journal: it is found once more.
        assert store.unfinished_rows() == {name: info}
        assert len(store.finish_rows(name)) == 4 and store.new_file() != name
        store.end_rows(name)
        assert store.unfinished_rows() == {} and not len(store.read_rows(name))
        kept = store.write_rows(rows)
        assert np.array_equal(store.read_rows(kept), rows)
