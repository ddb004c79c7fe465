"""Operations on the targets of a clip, and their undo."""

from __future__ import annotations

import json
import math
from dataclasses import asdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from siamtrack.studio import project as project_module
from siamtrack.studio.project import (
    MalformedError,
    Project,
    ProjectState,
    RefusedError,
    RunInfo,
    UnknownNumberError,
    apply_edits,
)
from siamtrack.tracking.track import BLEND, FORWARD, KEY, NO_SOURCE, OUTSIDE, ROW, Pick

BOX = (20.0, 10.0, 30.0, 40.0)
BOTH = {"box": list(BOX), "outside": True}


def do(project: Project, *operations: dict) -> list[int]:
    """Perform operations; returns the new targets."""
    return project.perform(list(operations)).created


def draw(project: Project, frame: int = 0, box=BOX, target="new") -> int:
    """A new target with a box, or a box for one that is there."""
    key = {"op": "set_key", "target": target, "frame": frame, "box": list(box)}
    operations = [{"op": "add_target"}, key] if target == "new" else [key]
    return [*do(project, *operations), target][0]


def add_run(project: Project, rows, target: int, frame: int, direction: int = 1) -> None:
    box = project.state.keys[target][frame].box
    info = RunInfo(target, frame, box, direction, 1, project.write_rows(rows))
    apply_edits(project.state, [["run", f"{project.state.next_run:06d}", asdict(info)]])


def sources(project: Project, target: int, first: int, last: int) -> list[int]:
    return project.resolve(target, first, last, 0.5).sources.tolist()


def test_a_drawn_box_is_rounded_and_clipped_to_the_frame(project) -> None:
    target = draw(project, 3, (150.126, 80.004, 100, 100))
    assert project.state.keys[target][3].box == (150.13, 80.0, 49.87, 20.0)
    # Dragged to the left and up, it is the same box.
    draw(project, 4, (50, 50, -30, -40), target)
    assert project.state.keys[target][4].box == (20, 10, 30, 40)


@pytest.mark.parametrize("box", [(300, 5, 20, 20), (10, 10, 1.9, 50), (198.5, 0, 10, 10)])
def test_boxes_outside_or_too_small_are_refused(project, box) -> None:
    with pytest.raises(RefusedError, match="draw"):
        draw(project, 0, box)
    assert project.state == ProjectState()


def test_numbers_of_targets_are_never_used_again(project) -> None:
    first = draw(project)
    do(project, {"op": "delete_target", "target": first})
    assert draw(project) == first + 1
    assert first not in project.state.keys or not project.state.keys[first]


def test_all_operations_of_a_request_are_done_or_none(project) -> None:
    target = draw(project)
    before = json.dumps(project.state.to_json())
    with pytest.raises(UnknownNumberError, match="no frame 100"):
        do(
            project,
            {"op": "update_target", "target": target, "label": "car"},
            {"op": "delete_key", "target": target, "frame": 0},
            {"op": "set_key", "target": target, "frame": 100, "box": list(BOX)},
        )
    assert json.dumps(project.state.to_json()) == before


@pytest.mark.parametrize(
    ("operation", "error"),
    [
        ("draw", MalformedError),
        ({"op": "fly"}, MalformedError),
        ({"op": "delete_key", "target": 0}, MalformedError),
        ({"op": "delete_key", "target": 0, "frame": 1.0}, MalformedError),
        ({"op": "delete_key", "target": True, "frame": 0}, MalformedError),
        ({"op": "delete_key", "target": 7, "frame": 0}, UnknownNumberError),
        ({"op": "delete_key", "target": 0, "frame": 5}, RefusedError),
        ({"op": "delete_key", "target": 0, "frame": 0, "now": 1}, MalformedError),
        ({"op": "set_key", "target": 0, "frame": 1, "box": [1, 2, 3]}, MalformedError),
        ({"op": "set_key", "target": 0, "frame": 1, "box": [1, 2, 3, "4"]}, MalformedError),
        ({"op": "set_key", "target": 0, "frame": 1, "box": [1, 2, 3, 1e400]}, MalformedError),
        ({"op": "set_key", "target": 0, "frame": 1, "box": [1, 2, 3, math.nan]}, MalformedError),
        ({"op": "set_key", "target": 0, "frame": 1, "box": None}, MalformedError),
        ({"op": "set_key", "target": 0, "frame": 10**40, "box": list(BOX)}, UnknownNumberError),
        ({"op": "set_key", "target": 0, "frame": 1, "box": None, "outside": 1}, MalformedError),
        ({"op": "set_key", "target": 0, "frame": 1, **BOTH}, MalformedError),
        ({"op": "set_key", "target": 0, "frame": 9, "occluded": True}, RefusedError),
        ({"op": "set_key", "target": 0, "frame": 9, "occluded": 1}, MalformedError),
        ({"op": "update_target", "target": 0, "label": "a\nb"}, MalformedError),
        ({"op": "update_target", "target": 0, "label": "x" * 201}, MalformedError),
        ({"op": "update_target", "target": 0, "color": 12}, MalformedError),
        ({"op": "pick", "target": 0, "first": 3, "last": 2, "choice": "line"}, RefusedError),
        ({"op": "pick", "target": 0, "first": 2, "last": 3, "choice": "best"}, MalformedError),
        ({"op": "merge_targets", "target": 0, "other": 0}, RefusedError),
        ({"op": "split_target", "target": 0, "frame": 0}, RefusedError),
        ({"op": "set_labels", "labels": "car"}, MalformedError),
        ({"op": "set_labels", "labels": [3]}, MalformedError),
    ],
    ids=str,
)  # fmt: skip
def test_operations_that_make_no_sense(project, operation, error) -> None:
    draw(project)
    before = json.dumps(project.state.to_json())
    with pytest.raises(error):
        do(project, operation)
    assert json.dumps(project.state.to_json()) == before


def test_text_from_people_is_kept_as_it_is(project) -> None:
    draw(project)
    do(project, {"op": "update_target", "target": 0, "name": '<img onerror="x">', "label": "Ü"})
    assert project.state.targets[0].name == '<img onerror="x">'
    do(project, {"op": "set_labels", "labels": ["b", "a", "b", ""]})
    assert project.state.labels == ("b", "a")


def test_a_locked_target_is_left_alone(project) -> None:
    draw(project)
    do(project, {"op": "update_target", "target": 0, "locked": True})
    with pytest.raises(RefusedError, match="target 0 is locked"):
        draw(project, 5, BOX, 0)
    do(project, {"op": "update_target", "target": 0, "locked": False})
    draw(project, 5, BOX, 0)


def test_occluded_without_a_box_takes_the_one_that_is_shown(project, make_rows) -> None:
    draw(project)
    add_run(project, make_rows(0, BOX, 10), 0, 0)
    do(project, {"op": "set_key", "target": 0, "frame": 4, "occluded": True})
    key = project.state.keys[0][4]
    assert key.box == (24, 10, 30, 40) and key.occluded


def test_a_new_key_frame_drops_the_choices_of_its_gaps_only(project, make_rows) -> None:
    for frame in (0, 20, 40):
        draw(project, frame, BOX, "new" if frame == 0 else 0)
    for first in (5, 25, 45):
        pick = {"op": "pick", "target": 0, "first": first, "last": first + 9, "choice": "line"}
        do(project, pick)
    draw(project, 30, BOX, 0)
    assert project.state.picks[0] == (Pick(5, 14, "line"), Pick(45, 54, "line"))


def test_a_later_choice_replaces_the_part_it_covers(project) -> None:
    draw(project)
    for first, last, choice in ((10, 30, "forward"), (15, 20, "line"), (18, 40, None)):
        pick = {"op": "pick", "target": 0, "first": first, "last": last, "choice": choice}
        do(project, pick)
    assert project.state.picks[0] == (Pick(10, 14, "forward"), Pick(15, 17, "line"))


def test_what_is_accepted_is_not_to_be_checked_any_more(project, make_rows) -> None:
    draw(project)
    draw(project, 8, BOX, 0)
    add_run(project, make_rows(0, BOX, 8, score=0.1), 0, 0)
    assert project.resolve(0, 1, 7, 0.5).checks.all()
    do(project, {"op": "accept", "target": 0, "first": 2, "last": 4})
    assert project.resolve(0, 1, 7, 0.5).checks.tolist() == [1, 0, 0, 0, 1, 1, 1]
    assert project.state.picks[0] == (Pick(2, 4, "forward"),)
    # A backward run that comes later does not change what was accepted.
    add_run(project, make_rows(8, BOX, 8, -1), 0, 8, -1)
    assert sources(project, 0, 1, 7) == [BLEND, FORWARD, FORWARD, FORWARD, BLEND, BLEND, BLEND]


def test_a_copy_has_all_and_goes_its_own_way(project, make_rows) -> None:
    draw(project)
    add_run(project, make_rows(0, BOX, 10), 0, 0)
    do(project, {"op": "pick", "target": 0, "first": 2, "last": 3, "choice": "forward"})
    [copy] = do(project, {"op": "duplicate_target", "target": 0})
    before = project.resolve(0, 0, 20, 0.5)
    assert project.resolve(copy, 0, 20, 0.5).boxes.tobytes() == before.boxes.tobytes()
    do(project, {"op": "delete_key", "target": copy, "frame": 0})
    assert project.resolve(0, 0, 20, 0.5).boxes.tobytes() == before.boxes.tobytes()


def test_splitting_changes_no_box_and_merging_puts_it_together(project, make_rows) -> None:
    draw(project)
    draw(project, 30, BOX, 0)
    add_run(project, make_rows(0, BOX, 30), 0, 0)
    add_run(project, make_rows(30, BOX, 10), 0, 30)
    before = project.resolve(0, 0, 60, 0.5)
    [second] = do(project, {"op": "split_target", "target": 0, "frame": 10})
    old, new = project.resolve(0, 0, 60, 0.5), project.resolve(second, 0, 60, 0.5)
    assert old.boxes[:10].tobytes() == before.boxes[:10].tobytes()
    assert not old.present[10:].any() and old.sources[10:12].tolist() == [KEY, OUTSIDE]
    assert new.boxes[10:].tobytes() == before.boxes[10:].tobytes() and not new.present[:10].any()

    do(project, {"op": "delete_key", "target": 0, "frame": 10})
    with pytest.raises(RefusedError, match="both there in frame 10"):
        do(project, {"op": "merge_targets", "target": 0, "other": second})
    outside = {"op": "set_key", "target": 0, "frame": 10, "outside": True}
    do(project, outside, {"op": "merge_targets", "target": 0, "other": second})
    after = project.resolve(0, 0, 60, 0.5)
    assert after.boxes.tobytes() == before.boxes.tobytes() and list(project.state.targets) == [0]


def test_a_target_may_be_split_where_it_is_outside(project) -> None:
    draw(project)
    do(project, {"op": "set_key", "target": 0, "frame": 5, "outside": True})
    draw(project, 20, BOX, 0)
    [second] = do(project, {"op": "split_target", "target": 0, "frame": 10})
    assert sorted(project.state.keys[second]) == [20]
    assert sources(project, second, 9, 11) == [NO_SOURCE] * 3


FRAMES = st.integers(0, 99)
TARGETS = st.integers(0, 3)
OPERATIONS = st.one_of(
    st.builds(lambda label: {"op": "add_target", "label": label}, st.sampled_from("ab")),
    st.builds(
        lambda t, f, x: {"op": "set_key", "target": t, "frame": f, "box": [x, 5.0, 20.0, 20.0]},
        TARGETS, FRAMES, st.integers(0, 150),
    ),
    st.builds(
        lambda t, f: {"op": "set_key", "target": t, "frame": f, "outside": True}, TARGETS, FRAMES
    ),
    st.builds(lambda t, f: {"op": "delete_key", "target": t, "frame": f}, TARGETS, FRAMES),
    st.builds(lambda t, f: {"op": "split_target", "target": t, "frame": f}, TARGETS, FRAMES),
    st.builds(lambda t, o: {"op": "merge_targets", "target": t, "other": o}, TARGETS, TARGETS),
    st.builds(lambda t: {"op": "duplicate_target", "target": t}, TARGETS),
    st.builds(lambda t: {"op": "delete_target", "target": t}, TARGETS),
    st.builds(
        lambda t, f, c: {"op": "pick", "target": t, "first": f, "last": 99, "choice": c},
        TARGETS, FRAMES, st.sampled_from(["line", "forward", None]),
    ),
    st.builds(lambda t, f: {"op": "accept", "target": t, "first": 0, "last": f}, TARGETS, FRAMES),
)  # fmt: skip


@settings(max_examples=40)
@given(st.lists(OPERATIONS, max_size=25))
def test_undo_goes_all_the_way_back_and_runs_change_no_key_frame(operations) -> None:
    files: dict = {}

    def write(rows) -> str:
        files[str(len(files))] = rows
        return str(len(files) - 1)

    project = Project(ProjectState(), 100, (200, 100), files.__getitem__, write)
    inverses = []
    draw(project)
    for operation in operations:
        try:
            inverses.append(project.perform([operation]).inverse)
        except (RefusedError, UnknownNumberError):
            continue
        # What was set is there, and a run made from it leaves it alone.
        if "box" in operation:
            target, frame = operation["target"], operation["frame"]
            keys = json.dumps(project.state.to_json()["keys"])
            rows = np.zeros(3, ROW)
            rows["frame"], rows["box"] = frame + 1 + np.arange(3), BOX
            rows["status"] = 1
            add_run(project, rows, target, frame)
            inverses.append([["run", f"{project.state.next_run - 1:06d}", None]])
            resolved = project.resolve(target, 0, 99, 0.5)
            assert resolved.boxes[frame].tolist() == operation["box"]
            assert json.dumps(project.state.to_json()["keys"]) == keys
    whole = json.dumps(project.state.to_json())
    assert json.dumps(ProjectState.from_json(json.loads(whole)).to_json()) == whole
    redo = [apply_edits(project.state, inverse) for inverse in inverses[::-1]]
    assert list(project.state.targets) == [0] and list(project.state.keys[0]) == [0]
    assert not project.state.runs and not any(project.state.picks.values())
    for edits in redo[::-1]:
        apply_edits(project.state, edits)
    again = json.loads(json.dumps(project.state.to_json()))
    assert {k: v for k, v in again.items() if k != "picks"} == {
        k: v for k, v in json.loads(whole).items() if k != "picks"
    }
    assert {t: p for t, p in again["picks"] if p} == {
        t: p for t, p in json.loads(whole)["picks"] if p
    }


def test_rows_that_need_too_much_memory_are_read_again(project, make_rows, monkeypatch) -> None:
    reads = []
    read = project._read_rows
    monkeypatch.setattr(project, "_read_rows", lambda name: reads.append(name) or read(name))
    targets = [draw(project), draw(project, box=(60, 10, 30, 40))]
    for target in targets:
        add_run(project, make_rows(0, project.state.keys[target][0].box, 50), target, 0)

    def all_rows() -> list[bytes]:
        return [project.resolve(target, 0, 99, 0.5).boxes.tobytes() for target in targets]

    kept = [all_rows() for _ in range(3)]
    assert len(reads) == 2
    monkeypatch.setattr(project_module, "RUNS_BYTES", 60 * ROW.itemsize)
    project._runs.clear()
    project._runs_bytes = 0
    assert [all_rows() for _ in range(3)] == kept and len(reads) == 2 + 6
    # What is known of a run without its rows needs none.
    (first, _) = project.state.runs.values()
    assert project.last_of(first) == 50 and project.is_valid(first) and len(reads) == 8
    draw(project, 0, (21, 10, 30, 40), targets[0])
    assert not project.is_valid(first)
