from __future__ import annotations

import pytest

from siamtrack.video.interactive import (
    Action,
    Closed,
    Command,
    Key,
    Mode,
    Mouse,
    StartTarget,
    WindowState,
)

FRAME_WH = (640, 480)


def drag(state: WindowState, start: tuple[float, float], end: tuple[float, float]) -> list[Command]:
    """Press at `start`, move over the middle to `end`, let go."""
    middle = ((start[0] + end[0]) / 2, (start[1] + end[1]) / 2)
    events = (Mouse("down", *start), Mouse("move", *middle), Mouse("up", *end))
    return [command for event in events if (command := state.handle(event)) is not None]


def press(state: WindowState, *names: str) -> list[Command]:
    return [command for name in names if (command := state.handle(Key(name))) is not None]


def running(*targets: int) -> WindowState:
    return WindowState(FRAME_WH, targets or (0,))


def test_without_targets_it_asks_for_a_box_and_then_tracks() -> None:
    state = WindowState(FRAME_WH)
    assert state.mode is Mode.SELECT and "Drag a box" in state.help_text
    assert drag(state, (100, 50), (180, 90)) == [StartTarget((100, 50, 80, 40))]
    assert state.mode is Mode.TRACK


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
    assert drag(WindowState(FRAME_WH), start, end) == [StartTarget((100, 50, 80, 40))]


def test_a_drag_that_leaves_the_frame_ends_at_its_edge() -> None:
    assert drag(WindowState(FRAME_WH), (600, 400), (900, -50)) == [StartTarget((600, 0, 40, 400))]


@pytest.mark.parametrize("end", [(100, 100), (103, 200), (200, 98)], ids=["click", "thin", "flat"])
def test_an_empty_drag_is_asked_for_again(end: tuple[float, float]) -> None:
    state = WindowState(FRAME_WH)
    assert drag(state, (100, 100), end) == []
    assert state.mode is Mode.SELECT
    assert "empty" in state.help_text
    assert drag(state, (100, 100), (150, 150)) == [StartTarget((100, 100, 50, 50))]
    assert "empty" not in state.help_text


def test_a_drag_wholly_outside_the_frame_is_empty() -> None:
    state = WindowState(FRAME_WH)
    assert drag(state, (700, 500), (900, 600)) == []
    assert state.mode is Mode.SELECT


def test_the_box_being_dragged_can_be_seen() -> None:
    state = WindowState(FRAME_WH)
    assert state.selection is None
    state.handle(Mouse("down", 50, 60))
    state.handle(Mouse("move", 30, 100))
    assert state.selection == (30, 60, 20, 40)
    state.handle(Mouse("up", 20, 100))
    assert state.selection is None


def test_moving_without_pressing_selects_nothing() -> None:
    state = WindowState(FRAME_WH)
    assert state.handle(Mouse("move", 5, 5)) is state.handle(Mouse("up", 50, 50)) is None
    assert state.selection is None


@pytest.mark.parametrize("mode", [Mode.TRACK, Mode.PAUSED])
def test_dragging_does_nothing_unless_a_box_is_asked_for(mode: Mode) -> None:
    state = running()
    press(state, *(["space"] if mode is Mode.PAUSED else []))
    assert drag(state, (100, 50), (180, 90)) == []
    assert state.mode is mode


def test_space_pauses_and_goes_on() -> None:
    state = running()
    assert press(state, "space") == [] and state.mode is Mode.PAUSED
    assert press(state, "space") == [] and state.mode is Mode.TRACK


def test_n_steps_and_stays_paused() -> None:
    state = running()
    press(state, "space")
    assert press(state, "n", "n") == [Action.STEP, Action.STEP]
    assert state.mode is Mode.PAUSED


def test_n_while_running_pauses_after_one_frame() -> None:
    state = running()
    assert press(state, "n") == [Action.STEP]
    assert state.mode is Mode.PAUSED


def test_n_before_the_first_box_looks_for_a_better_frame() -> None:
    state = WindowState(FRAME_WH)
    assert press(state, "n") == [Action.STEP]
    assert state.mode is Mode.SELECT


def test_n_while_selecting_among_targets_waits_for_the_box() -> None:
    state = running()
    assert press(state, "a", "n") == []
    assert state.mode is Mode.SELECT


@pytest.mark.parametrize("paused", [False, True])
def test_a_adds_a_target_and_goes_back_to_where_it_was(paused: bool) -> None:
    state = running()
    press(state, *(["space"] if paused else []), "a")
    assert state.mode is Mode.SELECT
    assert drag(state, (0, 0), (50, 40)) == [StartTarget((0, 0, 50, 40))]
    assert state.mode is (Mode.PAUSED if paused else Mode.TRACK)


@pytest.mark.parametrize("paused", [False, True])
def test_r_redraws_the_newest_target(paused: bool) -> None:
    state = running(0, 1)
    press(state, *(["space"] if paused else []), "r")
    assert "target 1" in state.help_text
    assert drag(state, (0, 0), (50, 40)) == [StartTarget((0, 0, 50, 40), 1)]
    assert state.mode is (Mode.PAUSED if paused else Mode.TRACK)


def test_a_number_chooses_which_target_is_redrawn() -> None:
    state = running(0, 1, 2)
    press(state, "r", "0")
    assert "target 0" in state.help_text
    press(state, "7")
    assert drag(state, (0, 0), (50, 40)) == [StartTarget((0, 0, 50, 40), 0)]


def test_numbers_mean_nothing_elsewhere() -> None:
    state = running(0, 1)
    assert press(state, "1", "a", "0") == []
    assert drag(state, (0, 0), (50, 40)) == [StartTarget((0, 0, 50, 40))]


def test_a_target_added_later_can_be_redrawn() -> None:
    state = WindowState(FRAME_WH)
    drag(state, (0, 0), (50, 40))
    state.added(0)
    press(state, "r")
    assert drag(state, (9, 9), (50, 40)) == [StartTarget((9, 9, 41, 31), 0)]


def test_r_before_the_first_box_still_asks_for_it() -> None:
    state = WindowState(FRAME_WH)
    press(state, "r")
    assert drag(state, (0, 0), (50, 40)) == [StartTarget((0, 0, 50, 40))]


def test_space_before_the_first_box_holds_the_frame_for_more_boxes() -> None:
    state = WindowState(FRAME_WH)
    press(state, "space")
    for target in (0, 1):
        assert len(drag(state, (0, 0), (50, 40))) == 1
        state.added(target)
        assert state.mode is Mode.PAUSED
        press(state, "a")
    press(state, "esc", "space")
    assert state.mode is Mode.TRACK


def test_space_twice_before_the_first_box_changes_nothing() -> None:
    state = WindowState(FRAME_WH)
    press(state, "space", "space")
    drag(state, (0, 0), (50, 40))
    assert state.mode is Mode.TRACK


@pytest.mark.parametrize("key", ["a", "r"])
@pytest.mark.parametrize("paused", [False, True])
def test_escape_leaves_a_selection(key: str, paused: bool) -> None:
    state = running()
    press(state, *(["space"] if paused else []), key)
    state.handle(Mouse("down", 5, 5))
    assert press(state, "esc") == []
    assert state.mode is (Mode.PAUSED if paused else Mode.TRACK)
    assert state.selection is None


@pytest.mark.parametrize("key", ["q", "esc"])
@pytest.mark.parametrize("before", [[], ["space"]])
def test_quit(key: str, before: list[str]) -> None:
    state = running()
    press(state, *before)
    assert press(state, key) == [Action.QUIT]
    assert press(WindowState(FRAME_WH), key) == [Action.QUIT]


def test_closing_the_window_quits_even_in_a_selection() -> None:
    state = running()
    press(state, "a")
    assert state.handle(Closed()) == Action.QUIT


@pytest.mark.parametrize("before", [[], ["space"], ["a"]])
def test_snapshot_in_every_mode(before: list[str]) -> None:
    state = running()
    press(state, *before)
    mode = state.mode
    assert press(state, "s") == [Action.SNAPSHOT]
    assert state.mode is mode


def test_unknown_keys_do_nothing() -> None:
    state = running()
    assert press(state, "x", "z", "?", "5") == []
    assert state.mode is Mode.TRACK


@pytest.mark.parametrize("redraw", [False, True])
def test_a_refused_box_is_asked_for_again_with_the_reason(redraw: bool) -> None:
    state = running()
    press(state, "space", "r" if redraw else "a")
    (command,) = drag(state, (0, 0), (50, 40))
    assert isinstance(command, StartTarget)
    state.refused(command, "box is too small")
    assert state.mode is Mode.SELECT and "too small" in state.help_text
    (again,) = drag(state, (0, 0), (60, 40))
    assert again == StartTarget((0, 0, 60, 40), command.target)
    assert command.target == (0 if redraw else None)
    assert state.mode is Mode.PAUSED


def test_help_bar_names_the_keys_that_work_now() -> None:
    state = running()
    assert all(key in state.help_text for key in ("Space", "r:", "a:", "n:", "s:", "q:"))
    press(state, "space")
    assert "go on" in state.help_text


def test_a_camera_is_previewed_until_a_drag_begins() -> None:
    state = WindowState(FRAME_WH)
    assert state.is_previewing
    state.handle(Mouse("down", 5, 5))
    assert not state.is_previewing
    state.handle(Mouse("up", 5, 5))
    assert state.is_previewing
    press(state, "space")
    assert not state.is_previewing
    assert not running().is_previewing
