from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from siamtrack.tracking.result import Result, Status
from siamtrack.video.draw import (
    STATUS_BGR,
    add_help_bar,
    draw_outlines,
    draw_results,
    draw_selection,
)
from siamtrack.video.interactive import Key, WindowState

BOX = (200.0, 150.0, 160.0, 120.0)


def gray(height: int = 480, width: int = 640, level: int = 128) -> np.ndarray:
    return np.full((height, width, 3), level, np.uint8)


def one(box: tuple[float, ...] = BOX, score: float = 0.9, status: Status = "tracked") -> dict:
    return {0: Result(box=box, score=score, status=status)}


def is_color(image: np.ndarray, bgr: tuple[int, int, int]) -> np.ndarray:
    return (image == np.array(bgr, np.uint8)).all(axis=-1)


def changed(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    return (before != after).any(axis=-1)


def extent(mask: np.ndarray) -> tuple[int, int, int, int]:
    """Left, top, right, bottom of what is set; the last two exclusive."""
    ys, xs = np.nonzero(mask)
    return xs.min(), ys.min(), xs.max() + 1, ys.max() + 1


def contrast(a: tuple[float, ...], b: tuple[float, ...]) -> float:
    """Contrast ratio of two BGR colors as WCAG 2 defines it: 1 (same) to 21."""

    def luminance(bgr: tuple[float, ...]) -> float:
        c = np.array(bgr, float) / 255
        linear = np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)
        return float(linear @ [0.0722, 0.7152, 0.2126])

    low, high = sorted((luminance(a), luminance(b)))
    return (high + 0.05) / (low + 0.05)


def test_draws_on_a_copy() -> None:
    image = gray()
    drawn = draw_results(image, one(), fps=30.0)
    assert drawn is not image
    assert drawn.shape == image.shape and drawn.dtype == np.uint8
    assert (image == 128).all()


def test_outlines_have_their_color_a_dark_rim_and_nothing_for_an_unknown_box() -> None:
    image = gray()
    unknown = np.array([np.nan, 150.0, 160.0, 120.0])
    drawn = draw_outlines(image, [(np.array(BOX), (50, 60, 250)), (unknown, (90, 220, 60))])
    assert (image == 128).all()
    assert not is_color(drawn, (90, 220, 60)).any()
    left, top, right, bottom = extent(is_color(drawn, (50, 60, 250)))
    assert abs(left - 200) <= 2 and abs(top - 150) <= 2
    assert abs(right - 360) <= 2 and abs(bottom - 270) <= 2
    assert (drawn.max(axis=-1) < 100).any()
    assert (draw_outlines(image, [(unknown, (90, 220, 60))]) == image).all()


def test_nothing_to_draw_changes_nothing() -> None:
    image = gray()
    assert (draw_results(image, {}) == image).all()


@pytest.mark.parametrize(
    ("status", "hue"), [("tracked", "green"), ("uncertain", "amber"), ("lost", "red")]
)
def test_color_of_the_box_is_that_of_the_status(status: Status, hue: str) -> None:
    b, g, r = STATUS_BGR[status]
    seen = {"green": g > max(r, b), "amber": r > g > 2 * b, "red": r > 2 * max(g, b)}
    assert seen[hue]
    x, y, _, _ = (int(v) for v in BOX)
    corner = draw_results(gray(), one(status=status))[y : y + 4, x : x + 4]
    assert is_color(corner, STATUS_BGR[status]).any()
    for other in set(STATUS_BGR) - {status}:
        assert not is_color(draw_results(gray(), one(status=status)), STATUS_BGR[other]).any()


def test_line_of_the_box_lies_on_its_outermost_pixels() -> None:
    # On a frame of this size the line is one pixel wide.
    x, y, w, h = 60, 70, 100, 80
    drawn = draw_results(gray(240, 320), one((x, y, w, h)))
    green = is_color(drawn, STATUS_BGR["tracked"])
    # The tag above the box is out of this row and this column.
    assert np.flatnonzero(green[y + h // 2]).tolist() == [x, x + w - 1]
    assert np.flatnonzero(green[y:, x + w - 10]).tolist() == [0, h - 1]
    assert (drawn[y + 10 : y + h - 10, x + 10 : x + w - 10] == 128).all()


@pytest.mark.parametrize("status", ["tracked", "uncertain", "lost"])
def test_only_a_lost_box_is_dashed(status: Status) -> None:
    x, y, _, h = (int(v) for v in BOX)
    drawn = draw_results(gray(), one(status=status))
    left_edge = is_color(drawn[y : y + h, x : x + 1], STATUS_BGR[status])[:, 0]
    changes = np.count_nonzero(np.diff(left_edge.astype(int)))
    assert changes >= 6 if status == "lost" else changes == 0
    assert 0.3 < left_edge.mean() if status == "lost" else left_edge.all()


@pytest.mark.parametrize("status", ["tracked", "uncertain", "lost"])
@pytest.mark.parametrize(
    "background",
    [(0, 0, 0), (255, 255, 255), (128, 128, 128), *STATUS_BGR.values()],
    ids=str,
)
def test_box_stands_out_from_any_background(
    status: Status, background: tuple[int, int, int]
) -> None:
    image = np.empty((480, 640, 3), np.uint8)
    image[:] = background
    x, y, _, _ = (int(v) for v in BOX)
    row = draw_results(image, one(status=status))[y, x - 6 : x + 6]
    assert max(contrast(tuple(pixel), background) for pixel in row) > 3


@pytest.mark.parametrize("status", ["tracked", "uncertain", "lost"])
def test_text_stands_out_from_its_box(status: Status) -> None:
    image = np.full((480, 640, 3), 255, np.uint8)
    drawn = draw_results(image, one(status=status))
    tag = drawn[: int(BOX[1]) - 4].reshape(-1, 3)
    colors, counts = np.unique(tag[(tag != 255).any(1)], axis=0, return_counts=True)
    text_box = colors[counts.argmax()]
    assert contrast(tuple(text_box), STATUS_BGR[status]) > 4.5


def test_lines_and_letters_grow_with_the_frame() -> None:
    widths, heights = [], []
    for scale in (1, 2, 4):
        image = gray(480 * scale, 640 * scale)
        x, y, w, h = (v * scale for v in BOX)
        drawn = draw_results(image, one((x, y, w, h)))
        middle = drawn[int(y + h / 2), : int(x + w / 2)]
        widths.append(np.count_nonzero(is_color(middle, STATUS_BGR["tracked"])))
        tag = changed(image, drawn)[: int(y) - 3 * scale]
        heights.append(extent(tag)[3] - extent(tag)[1])
    assert widths[0] < widths[1] < widths[2]
    assert heights[0] < heights[1] < heights[2]


def test_label_shows_number_and_score() -> None:
    def label(target: int = 0, score: float = 0.5) -> bytes:
        result = Result(box=BOX, score=score, status="tracked")
        return draw_results(gray(), {target: result})[110:148].tobytes()

    plain = label()
    assert plain == label(score=0.501), "two decimals are shown"
    assert plain not in {label(target=1), label(score=0.6)}


def test_targets_of_the_same_status_differ_in_color() -> None:
    text_boxes = {tuple(draw_results(gray(), {k: one()[0]})[131, 200]) for k in range(8)}
    assert len(text_boxes) == 8


@pytest.mark.parametrize(
    "box",
    [
        (0.0, 0.0, 100.0, 100.0),
        (560.0, 0.0, 80.0, 480.0),
        (0.0, 0.0, 640.0, 480.0),
        (600.0, 440.0, 40.0, 40.0),
    ],
)
def test_label_stays_whole_at_the_edges(box: tuple[float, ...]) -> None:
    middle = Result(box=BOX, score=0.25, status="uncertain")
    at_edge = Result(box=box, score=0.25, status="uncertain")
    ink = STATUS_BGR["uncertain"]

    def text_boxes(result: Result) -> int:
        """Pixels of text in the text box, which is darker than everything around."""
        bare = draw_results(gray(), {0: Result(result.box, 0.25, "tracked")})
        drawn = draw_results(gray(), {0: result})
        return int(np.count_nonzero(is_color(drawn, ink))) - int(
            np.count_nonzero(is_color(bare, STATUS_BGR["tracked"]))
        )

    assert text_boxes(at_edge) == pytest.approx(text_boxes(middle), abs=2)


def test_labels_of_nested_boxes_do_not_cover_each_other() -> None:
    outer = Result(box=(100.0, 100.0, 300.0, 300.0), score=0.9, status="tracked")
    inner = Result(box=(104.0, 104.0, 60.0, 60.0), score=0.9, status="tracked")
    both = draw_results(gray(), {0: outer, 1: inner})
    for k, result in ((0, outer), (1, inner)):
        accent_alone = draw_results(gray(), {k: result})
        accent = tuple(int(v) for v in _accent(accent_alone))
        assert np.count_nonzero(is_color(both, accent)) == np.count_nonzero(
            is_color(accent_alone, accent)
        )


def _accent(drawn: np.ndarray) -> np.ndarray:
    """The commonest color that is neither background, box, nor dark."""
    colors, counts = np.unique(drawn.reshape(-1, 3), axis=0, return_counts=True)
    skip = (colors == 128).all(1) | (colors.max(1) < 40)
    skip |= (colors == np.array(STATUS_BGR["tracked"])).all(1)
    return colors[~skip][counts[~skip].argmax()]


def test_fps_is_in_the_top_right_corner() -> None:
    image = gray()
    left, top, right, bottom = extent(changed(image, draw_results(image, {}, fps=59.6)))
    assert (right, top) == (640, 0) and left > 320 and bottom < 60
    assert (draw_results(image, {}, fps=59.6) == draw_results(image, {}, fps=60.4)).all()
    assert (draw_results(image, {}, fps=4.2) != draw_results(image, {}, fps=4.4)).any()


def test_help_bar_is_under_the_picture_and_hides_nothing() -> None:
    image = gray()
    shown = add_help_bar(image, "Drag a box around the target")
    assert (shown[:480] == image).all() and (image == 128).all()
    strip = shown[480:]
    assert 10 < strip.shape[0] < 60
    assert contrast(tuple(strip.max(axis=(0, 1))), tuple(strip.min(axis=(0, 1)))) > 10


def test_help_bar_keeps_its_height_and_grows_over_the_picture_only_when_it_must() -> None:
    image = gray()
    short, long = add_help_bar(image, "x"), add_help_bar(image, "Drag a box " * 20)
    assert short.shape == long.shape
    covered = changed(image, long[:480])
    left, top, right, bottom = extent(covered)
    assert (left, right, bottom) == (0, 640, 480) and 300 < top < 470
    assert covered[top:].all()


@pytest.mark.parametrize("wh", [(480, 640), (1600, 900), (480, 1600), (853, 480)])
def test_the_keys_fit_into_the_help_bar_of_every_usual_window(wh: tuple[int, int]) -> None:
    image = gray(wh[1], wh[0])
    paused = WindowState(wh, (0,))
    paused.handle(Key("space"))
    for session in (WindowState(wh), WindowState(wh, (0,)), paused):
        assert (add_help_bar(image, session.help_text)[: wh[1]] == image).all()


def test_selection_is_drawn_on_a_copy_where_it_is() -> None:
    image = gray()
    drawn = draw_selection(image, (100.0, 50.0, 200.0, 100.0))
    left, top, right, bottom = extent(changed(image, drawn))
    assert (image == 128).all()
    assert abs(left - 100) <= 3 and abs(top - 50) <= 3
    assert abs(right - 300) <= 3 and abs(bottom - 150) <= 3


@given(
    hw=st.tuples(st.integers(1, 300), st.integers(1, 300)),
    box=st.tuples(*[st.floats(-400, 400)] * 2, *[st.floats(0, 400)] * 2),
    status=st.sampled_from(["tracked", "uncertain", "lost"]),
)
def test_anything_can_be_drawn(hw: tuple[int, int], box: tuple[float, ...], status: Status) -> None:
    image = gray(*hw)
    results = {k: Result(box=box, score=0.5, status=status) for k in (0, 12)}
    drawn = draw_results(image, results, fps=12.0)
    assert drawn.shape == image.shape
    assert add_help_bar(image, "Space: pause | q: quit").shape[1] == image.shape[1]
    assert (image == 128).all()
