from __future__ import annotations

import pytest

from siamtrack.video.interactive import (
    AddTarget,
    Closed,
    Command,
    Key,
    Mode,
    Mouse,
    Quit,
    RedrawTarget,
    Session,
    Snapshot,
    Step,
)

FRAME_WH = (640, 480)


def drag(session: Session, start: tuple[float, float], end: tuple[float, float]) -> list[Command]:
    """Press at `start`, move over the middle to `end`, let go."""
    middle = ((start[0] + end[0]) / 2, (start[1] + end[1]) / 2)
    commands: list[Command] = []
    for event in (Mouse("down", *start), Mouse("move", *middle), Mouse("up", *end)):
        commands += session.handle(event)
    return commands


def press(session: Session, *names: str) -> list[Command]:
    return [command for name in names for command in session.handle(Key(name))]


def running(*targets: int) -> Session:
    return Session(FRAME_WH, targets or (0,))


def test_without_targets_it_asks_for_a_box_and_then_tracks() -> None:
    session = Session(FRAME_WH)
    assert session.mode is Mode.SELECT and "Drag a box" in session.banner
    assert drag(session, (100, 50), (180, 90)) == [AddTarget((100, 50, 80, 40))]
    assert session.mode is Mode.TRACK


def test_with_targets_it_tracks_at_once() -> None:
    assert running().mode is Mode.TRACK


@pytest.mark.parametrize(
    ("start", "end"),
    [
        ((100, 50), (180, 90)),
        ((180, 90), (100, 50)),
        ((180, 50), (100, 90)),
        ((100, 90), (180, 50)),
    ],
    ids=["down-right", "up-left", "down-left", "up-right"],
)
def test_a_box_may_be_dragged_in_any_direction(
    start: tuple[float, float], end: tuple[float, float]
) -> None:
    assert drag(Session(FRAME_WH), start, end) == [AddTarget((100, 50, 80, 40))]


def test_a_drag_that_leaves_the_frame_ends_at_its_edge() -> None:
    assert drag(Session(FRAME_WH), (600, 400), (900, -50)) == [AddTarget((600, 0, 40, 400))]


@pytest.mark.parametrize("end", [(100, 100), (103, 200), (200, 98)], ids=["click", "thin", "flat"])
def test_an_empty_drag_is_asked_for_again(end: tuple[float, float]) -> None:
    session = Session(FRAME_WH)
    assert drag(session, (100, 100), end) == []
    assert session.mode is Mode.SELECT
    assert "empty" in session.banner
    assert drag(session, (100, 100), (150, 150)) == [AddTarget((100, 100, 50, 50))]
    assert "empty" not in session.banner


def test_a_drag_wholly_outside_the_frame_is_empty() -> None:
    session = Session(FRAME_WH)
    assert drag(session, (700, 500), (900, 600)) == []
    assert session.mode is Mode.SELECT


def test_the_box_being_dragged_can_be_seen() -> None:
    session = Session(FRAME_WH)
    assert session.selection is None
    session.handle(Mouse("down", 50, 60))
    session.handle(Mouse("move", 30, 100))
    assert session.selection == (30, 60, 20, 40)
    session.handle(Mouse("up", 20, 100))
    assert session.selection is None


def test_moving_without_pressing_selects_nothing() -> None:
    session = Session(FRAME_WH)
    assert session.handle(Mouse("move", 5, 5)) == session.handle(Mouse("up", 50, 50)) == ()
    assert session.selection is None


@pytest.mark.parametrize("mode", [Mode.TRACK, Mode.PAUSED])
def test_dragging_does_nothing_unless_a_box_is_asked_for(mode: Mode) -> None:
    session = running()
    press(session, *(["space"] if mode is Mode.PAUSED else []))
    assert drag(session, (100, 50), (180, 90)) == []
    assert session.mode is mode


def test_space_pauses_and_goes_on() -> None:
    session = running()
    assert press(session, "space") == [] and session.mode is Mode.PAUSED
    assert press(session, "space") == [] and session.mode is Mode.TRACK


def test_n_steps_and_stays_paused() -> None:
    session = running()
    press(session, "space")
    assert press(session, "n", "n") == [Step(), Step()]
    assert session.mode is Mode.PAUSED


def test_n_while_running_pauses_after_one_frame() -> None:
    session = running()
    assert press(session, "n") == [Step()]
    assert session.mode is Mode.PAUSED


def test_n_before_the_first_box_looks_for_a_better_frame() -> None:
    session = Session(FRAME_WH)
    assert press(session, "n") == [Step()]
    assert session.mode is Mode.SELECT


def test_n_while_selecting_among_targets_waits_for_the_box() -> None:
    session = running()
    assert press(session, "a", "n") == []
    assert session.mode is Mode.SELECT


@pytest.mark.parametrize("paused", [False, True])
def test_a_adds_a_target_and_goes_back_to_where_it_was(paused: bool) -> None:
    session = running()
    press(session, *(["space"] if paused else []), "a")
    assert session.mode is Mode.SELECT
    assert drag(session, (0, 0), (50, 40)) == [AddTarget((0, 0, 50, 40))]
    assert session.mode is (Mode.PAUSED if paused else Mode.TRACK)


@pytest.mark.parametrize("paused", [False, True])
def test_r_redraws_the_newest_target(paused: bool) -> None:
    session = running(0, 1)
    press(session, *(["space"] if paused else []), "r")
    assert "target 1" in session.banner
    assert drag(session, (0, 0), (50, 40)) == [RedrawTarget(1, (0, 0, 50, 40))]
    assert session.mode is (Mode.PAUSED if paused else Mode.TRACK)


def test_a_number_chooses_which_target_is_redrawn() -> None:
    session = running(0, 1, 2)
    press(session, "r", "0")
    assert "target 0" in session.banner
    press(session, "7")
    assert drag(session, (0, 0), (50, 40)) == [RedrawTarget(0, (0, 0, 50, 40))]


def test_numbers_mean_nothing_elsewhere() -> None:
    session = running(0, 1)
    assert press(session, "1", "a", "0") == []
    assert drag(session, (0, 0), (50, 40)) == [AddTarget((0, 0, 50, 40))]


def test_a_target_added_later_can_be_redrawn() -> None:
    session = Session(FRAME_WH)
    drag(session, (0, 0), (50, 40))
    session.added(0)
    press(session, "r")
    assert drag(session, (9, 9), (50, 40)) == [RedrawTarget(0, (9, 9, 41, 31))]


def test_r_before_the_first_box_still_asks_for_it() -> None:
    session = Session(FRAME_WH)
    press(session, "r")
    assert drag(session, (0, 0), (50, 40)) == [AddTarget((0, 0, 50, 40))]


def test_space_before_the_first_box_holds_the_frame_for_more_boxes() -> None:
    session = Session(FRAME_WH)
    press(session, "space")
    for target in (0, 1):
        assert len(drag(session, (0, 0), (50, 40))) == 1
        session.added(target)
        assert session.mode is Mode.PAUSED
        press(session, "a")
    press(session, "esc", "space")
    assert session.mode is Mode.TRACK


def test_space_twice_before_the_first_box_changes_nothing() -> None:
    session = Session(FRAME_WH)
    press(session, "space", "space")
    drag(session, (0, 0), (50, 40))
    assert session.mode is Mode.TRACK


@pytest.mark.parametrize("key", ["a", "r"])
@pytest.mark.parametrize("paused", [False, True])
def test_escape_leaves_a_selection(key: str, paused: bool) -> None:
    session = running()
    press(session, *(["space"] if paused else []), key)
    session.handle(Mouse("down", 5, 5))
    assert press(session, "esc") == []
    assert session.mode is (Mode.PAUSED if paused else Mode.TRACK)
    assert session.selection is None


@pytest.mark.parametrize("key", ["q", "esc"])
@pytest.mark.parametrize("before", [[], ["space"]])
def test_quit(key: str, before: list[str]) -> None:
    session = running()
    press(session, *before)
    assert press(session, key) == [Quit()]
    assert press(Session(FRAME_WH), key) == [Quit()]


def test_closing_the_window_quits_even_in_a_selection() -> None:
    session = running()
    press(session, "a")
    assert session.handle(Closed()) == (Quit(),)


@pytest.mark.parametrize("before", [[], ["space"], ["a"]])
def test_snapshot_in_every_mode(before: list[str]) -> None:
    session = running()
    press(session, *before)
    mode = session.mode
    assert press(session, "s") == [Snapshot()]
    assert session.mode is mode


def test_unknown_keys_do_nothing() -> None:
    session = running()
    assert press(session, "x", "z", "?", "5") == []
    assert session.mode is Mode.TRACK


@pytest.mark.parametrize("redraw", [False, True])
def test_a_refused_box_is_asked_for_again_with_the_reason(redraw: bool) -> None:
    session = running()
    press(session, "space", "r" if redraw else "a")
    (command,) = drag(session, (0, 0), (50, 40))
    assert isinstance(command, AddTarget | RedrawTarget)
    session.refused(command, "box is too small")
    assert session.mode is Mode.SELECT and "too small" in session.banner
    (again,) = drag(session, (0, 0), (60, 40))
    assert type(again) is type(command)
    assert session.mode is Mode.PAUSED


def test_banner_names_the_keys_that_work_now() -> None:
    session = running()
    assert all(key in session.banner for key in ("Space", "r:", "a:", "n:", "s:", "q:"))
    press(session, "space")
    assert "go on" in session.banner


def test_a_camera_is_previewed_until_a_drag_begins() -> None:
    session = Session(FRAME_WH)
    assert session.previewing
    session.handle(Mouse("down", 5, 5))
    assert not session.previewing
    session.handle(Mouse("up", 5, 5))
    assert session.previewing
    press(session, "space")
    assert not session.previewing
    assert not running().previewing
