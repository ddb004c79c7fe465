from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest

from siamtrack.errors import InvalidBoxError
from siamtrack.tracking.result import Result
from siamtrack.video.frames import Frame
from siamtrack.video.interactive import Closed, DisplayScale, Event, InteractiveSession, Key, Mouse
from siamtrack.video.run import first_frame_result

FRAME_WH = (640, 480)
BOX = (100.0, 100.0, 80.0, 60.0)


class Still:
    """A tracker that remembers what it was told."""

    def __init__(self, targets: int = 0, refuse: int = 0) -> None:
        self.count = targets
        self.refuse = refuse
        self.told: list[tuple[str, int, tuple[float, ...]]] = []

    @property
    def targets(self) -> tuple[int, ...]:
        return tuple(range(self.count))

    def add(self, frame_bgr: np.ndarray, box: Sequence[float]) -> int:
        self._maybe_refuse()
        self.count += 1
        self.told.append(("add", self.count - 1, tuple(box)))
        return self.count - 1

    def reinit(self, target: int, frame_bgr: np.ndarray, box: Sequence[float]) -> None:
        self._maybe_refuse()
        self.told.append(("reinit", target, tuple(box)))

    def update(self, frame_bgr: np.ndarray) -> Mapping[int, Result]:
        return {}

    def _maybe_refuse(self) -> None:
        if self.refuse:
            self.refuse -= 1
            raise InvalidBoxError("nothing to hold on to")


class Script:
    """A window in which a prepared person acts; time passes only while it is polled."""

    def __init__(self, *turns: Sequence[Event]) -> None:
        self.turns = list(turns)
        self.now_s = 0.0
        self.shown: list[np.ndarray] = []
        self.polls = 0

    def show(self, image_bgr: np.ndarray) -> None:
        self.shown.append(image_bgr.copy())

    def poll(self, timeout_s: float) -> tuple[Event, ...]:
        self.polls += 1
        assert self.polls < 10_000, "nobody would ever get out of here"
        self.now_s += max(timeout_s, 0.001)
        return tuple(self.turns.pop(0)) if self.turns else ()


def drag(x0: float, y0: float, x1: float, y1: float) -> list[Event]:
    return [Mouse("down", x0, y0), Mouse("move", x1, y1), Mouse("up", x1, y1)]


def frame(index: int = 0, time_s: float = 0.0, wh: tuple[int, int] = FRAME_WH) -> Frame:
    return Frame(np.full((wh[1], wh[0], 3), 90, np.uint8), index, time_s)


def interactive_session(
    script: Script, tracker: Still, folder: Path, **more: object
) -> InteractiveSession:
    arguments = {"name": "clip.mp4", "snapshot_dir": folder, "live": False, **more}
    return InteractiveSession(script, tracker, clock=lambda: script.now_s, **arguments)  # type: ignore[arg-type]


def given(box: tuple[float, ...] = BOX) -> Result:
    return first_frame_result(box, frame().image)


def test_a_drawn_box_is_given_to_the_tracker_and_put_into_the_results(tmp_path: Path) -> None:
    script, tracker, results = Script((), (), drag(100, 100, 180, 160)), Still(), {}
    assert interactive_session(script, tracker, tmp_path).on_frame(frame(), results)
    assert tracker.told == [("add", 0, BOX)]
    assert results == {0: given()}


def test_an_empty_drag_waits_for_another(tmp_path: Path) -> None:
    script, tracker = Script(drag(5, 5, 6, 6), drag(100, 100, 180, 160)), Still()
    interactive_session(script, tracker, tmp_path).on_frame(frame(), {})
    assert tracker.told == [("add", 0, BOX)]


def test_a_shaky_click_on_a_large_frame_is_no_box(tmp_path: Path) -> None:
    """On a 4K frame, three px of the screen are seven of the frame."""
    script, tracker = Script(drag(100, 100, 103, 103), [Key("q")]), Still()
    interactive_session(script, tracker, tmp_path).on_frame(frame(wh=(3840, 2160)), {})
    assert tracker.told == []


def test_a_small_target_in_a_small_frame_is_a_box(tmp_path: Path) -> None:
    script, tracker = Script(drag(100, 100, 130, 130), [Key("q")]), Still()
    interactive_session(script, tracker, tmp_path).on_frame(frame(wh=(64, 48)), {})
    assert tracker.told == [("add", 0, pytest.approx((10, 10, 3, 3)))]


def test_a_box_the_tracker_refuses_is_asked_for_again(tmp_path: Path) -> None:
    script = Script(drag(5, 5, 60, 60), drag(100, 100, 180, 160))
    tracker, results = Still(refuse=1), {}
    interactive_session(script, tracker, tmp_path).on_frame(frame(), results)
    assert tracker.told == [("add", 0, BOX)]
    assert results == {0: given()}


def test_redrawing_replaces_the_result_of_this_frame(tmp_path: Path) -> None:
    script, tracker = Script([Key("r")], drag(100, 100, 180, 160)), Still(2)
    results = {0: given((0, 0, 9, 9)), 1: Result((5, 5, 9, 9), 0.1, "lost")}
    interactive_session(script, tracker, tmp_path).on_frame(frame(7, 0.3), results)
    assert tracker.told == [("reinit", 1, BOX)]
    assert results == {0: given((0, 0, 9, 9)), 1: given()}


def test_a_target_can_be_added_while_another_runs(tmp_path: Path) -> None:
    script, tracker = Script([Key("a")], drag(100, 100, 180, 160)), Still(1)
    results = {0: given((0, 0, 9, 9))}
    interactive_session(script, tracker, tmp_path).on_frame(frame(7, 0.3), results)
    assert list(results) == [0, 1] and results[1] == given()


@pytest.mark.parametrize("event", [Key("q"), Key("esc"), Closed()])
@pytest.mark.parametrize("targets", [0, 1])
def test_quitting_ends_the_run(event: Event, targets: int, tmp_path: Path) -> None:
    assert not interactive_session(Script([event]), Still(targets), tmp_path).on_frame(frame(), {})


def test_pausing_holds_the_frame_until_the_space_bar(tmp_path: Path) -> None:
    script = Script([Key("space")], *[()] * 50, [Key("space")])
    assert interactive_session(script, Still(1), tmp_path).on_frame(frame(), {0: given()})
    assert script.polls >= 52


def test_step_lets_one_frame_through(tmp_path: Path) -> None:
    script = Script([Key("space")], (), [Key("n")], (), (), [Key("q")])
    person = interactive_session(script, Still(1), tmp_path)
    assert person.on_frame(frame(), {0: given()})
    assert not person.on_frame(frame(1, 0.04), {0: given()})
    assert script.turns == []


def test_a_file_is_played_at_its_own_pace(tmp_path: Path) -> None:
    script = Script()
    person = interactive_session(script, Still(1), tmp_path)
    left_s = []
    for k in range(5):
        person.on_frame(frame(k, 0.1 * k), {0: given()})
        left_s.append(script.now_s)
    assert np.diff(left_s) == pytest.approx([0.1] * 4, abs=0.003)


def test_a_slow_tracker_is_not_delayed_further(tmp_path: Path) -> None:
    script = Script()
    person = interactive_session(script, Still(1), tmp_path)
    person.on_frame(frame(), {0: given()})
    script.now_s += 0.5
    started_s = script.now_s
    person.on_frame(frame(1, 0.1), {0: given()})
    assert script.now_s - started_s < 0.01


def test_a_gap_in_the_time_stamps_waits_a_second_at_most(tmp_path: Path) -> None:
    script = Script()
    person = interactive_session(script, Still(1), tmp_path)
    person.on_frame(frame(), {0: given()})
    person.on_frame(frame(1, 3600.0), {0: given()})
    assert script.now_s < 1.1


def test_a_live_source_is_never_delayed(tmp_path: Path) -> None:
    script = Script()
    person = interactive_session(script, Still(1), tmp_path, live=True)
    for k in range(5):
        person.on_frame(frame(k, 10.0 * k), {0: given()})
    assert script.now_s < 0.05


def test_a_camera_shows_new_frames_until_a_box_is_begun(tmp_path: Path) -> None:
    script = Script((), (), [Mouse("down", 100, 100)], (), (), [Mouse("up", 180, 160)])
    tracker = Still()
    person = interactive_session(script, tracker, tmp_path, live=True)
    assert [person.on_frame(frame(k, k / 30), {}) for k in range(3)] == [True] * 3
    assert tracker.told == [("add", 0, BOX)], "the frame stood still during the drag"


def test_a_file_waits_for_the_first_box(tmp_path: Path) -> None:
    script = Script(*[()] * 30, drag(100, 100, 180, 160))
    assert interactive_session(script, Still(), tmp_path).on_frame(frame(), {})
    assert script.polls >= 31


def test_window_shows_results_and_the_drag_but_never_writes_on_the_frame(tmp_path: Path) -> None:
    script = Script([Key("a")], [Mouse("down", 300, 300)], [Mouse("move", 400, 400)], [Key("q")])
    image = frame()
    interactive_session(script, Still(1), tmp_path).on_frame(image, {0: given()}, 30.0)
    assert (image.image == 90).all()
    plain = script.shown[0]
    assert (plain[100:160, 100:180] != 90).any(), "the box"
    assert (plain[:30, 560:] != 90).any(), "fps"
    assert (script.shown[-1][300:400, 300:400] != plain[300:400, 300:400]).any(), "the drag"


def test_what_a_paused_window_shows_is_drawn_only_when_something_happens(tmp_path: Path) -> None:
    script = Script([Key("space")], *[()] * 50, [Key("q")])
    interactive_session(script, Still(1), tmp_path).on_frame(frame(), {0: given()})
    assert len(script.shown) <= 3


@pytest.mark.parametrize(
    ("wh", "shown_wh"),
    [
        ((640, 480), (640, 480)),
        ((160, 120), (640, 480)),
        ((64, 48), (640, 480)),
        ((1280, 720), (1280, 720)),
        ((3840, 2160), (1280, 720)),
        ((1080, 1920), (405, 720)),
    ],
)
def test_small_frames_are_enlarged_and_large_ones_shrunk(
    wh: tuple[int, int], shown_wh: tuple[int, int], tmp_path: Path
) -> None:
    script = Script(drag(0, 0, 100, 100), [Key("q")])
    tracker = Still()
    interactive_session(script, tracker, tmp_path).on_frame(frame(wh=wh), {})
    height, width = script.shown[0].shape[:2]
    assert width == shown_wh[0]
    assert 10 < height - shown_wh[1] < 60, "the strip with the keys"
    ((_, _, box),) = tracker.told
    scale = wh[0] / shown_wh[0]
    assert box == pytest.approx((0, 0, 100 * scale, 100 * scale))


def test_display_scale_maps_boxes_as_it_maps_pixels() -> None:
    scale = DisplayScale((160, 120))
    image = np.zeros((120, 160, 3), np.uint8)
    image[20:60, 40:100] = 255
    x, y, w, h = scale.to_screen((40.0, 20.0, 60.0, 40.0))
    assert (
        scale.resize(image)[int(y) + 4 : int(y + h) - 4, int(x) + 4 : int(x + w) - 4].min() == 255
    )
    assert scale.to_frame(Mouse("up", x, y)) == Mouse("up", 40.0, 20.0)
    assert scale.to_frame(Key("q")) == Key("q")


def test_snapshots_show_the_results_and_replace_nothing(tmp_path: Path) -> None:
    script = Script([Key("space")], [Key("s")], [Key("s")], [Key("q")])
    folder = tmp_path / "new" / "folder"
    interactive_session(script, Still(1), folder).on_frame(frame(12), {0: given()})
    names = sorted(path.name for path in folder.iterdir())
    assert names == ["clip-frame000012-1.png", "clip-frame000012.png"]
    for name in names:
        saved = cv2.imread(str(folder / name))
        assert saved.shape == (480, 640, 3)
        assert (saved[100:160, 100:180] != 90).any(), "the box is drawn"
        assert (saved[440:] == 90).all(), "the help bar is not"


@pytest.mark.parametrize("name", ["rtsp://user@host/live", "camera 0", "frames/", "...", "ü/x y"])
def test_snapshots_of_any_source_have_a_usable_name(name: str, tmp_path: Path) -> None:
    script = Script([Key("s")], [Key("q")])
    interactive_session(script, Still(1), tmp_path, name=name).on_frame(frame(), {0: given()})
    (path,) = tmp_path.iterdir()
    assert path.name.endswith("-frame000000.png")
    assert not set(path.name) & set("/: ")


def test_a_snapshot_that_cannot_be_saved_does_not_end_the_run(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("in the way")
    script = Script([Key("s")], [Key("space")], [Key("space")])
    assert interactive_session(script, Still(1), tmp_path / "file").on_frame(frame(), {0: given()})
    assert "snapshot not saved" in caplog.text


def test_a_snapshot_gives_up_when_all_names_are_taken(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for tail in itertools.chain([""], (f"-{k}" for k in range(1, 1000))):
        (tmp_path / f"clip-frame000000{tail}.png").touch()
    script = Script([Key("s")], [Key("q")])
    interactive_session(script, Still(1), tmp_path).on_frame(frame(), {0: given()})
    assert "snapshot not saved" in caplog.text
