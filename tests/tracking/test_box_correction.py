"""Later boxes are drawn as the first one was, whatever the network's box bias."""

from dataclasses import replace

import numpy as np
import pytest

from siamtrack.engines.base import Exemplar, Response
from siamtrack.errors import ConfigError
from siamtrack.geometry import CropMap, iou
from siamtrack.models.lite0 import Lite0Config
from siamtrack.tracking.box_correction import NO_CORRECTION, BoxCorrection, box_near
from siamtrack.tracking.multi import MultiTracker
from siamtrack.tracking.options import BoxHeadOptions
from siamtrack.tracking.tracker import Tracker

GIVEN = np.array([100.0, 60.0, 40.0, 20.0])


def response_of(box_xywh, crop_map, cells=8, stride=16):
    """What a network says that sees one box: sure in the cells near its middle, and only there."""
    x, y, w, h = crop_map.to_crop(np.asarray(box_xywh, float))
    centers = (np.arange(cells) + 0.5) * stride
    columns, rows = np.meshgrid(centers, centers)
    ltrb = np.stack([columns - x, rows - y, x + w - columns, y + h - rows])
    near = np.hypot(columns - x - w / 2, rows - y - h / 2)
    logits = 6.0 - near / 4
    return Response(logits[None].astype(np.float32), ltrb[None].astype(np.float32), None)


class Habit:
    """An engine that finds the bright rectangle of a dark frame and draws its box its own way.

    Wider by `wider`, and to the right by `right` of its own widths.
    """

    name, precision, device, architecture = "habit", "f32", "cpu", "siamtrack-lite0"
    config = Lite0Config(exemplar_size_px=64, search_size_px=128)

    def __init__(self, wider=1.0, right=0.0):
        self.wider, self.right, self.crops = wider, right, 0

    def embed_exemplar(self, crops, boxes_xywh):
        return Exemplar((), len(crops))

    def stack(self, exemplars):
        return exemplars[0]

    def prepare(self, crops):
        return crops

    def infer(self, exemplar, batch):
        found = [self._one(crop) for crop in batch]
        logits = np.concatenate([r.score_logits for r in found])
        ltrb = np.concatenate([r.ltrb_px for r in found])
        return Response(logits, ltrb, None)

    def track(self, exemplar, crops):
        self.crops += len(crops)
        return self.infer(exemplar, crops)

    def _one(self, crop):
        rows, columns = np.nonzero(crop[..., 1] > 127)
        if not len(rows):
            return Response(np.full((1, 8, 8), -9.0), np.ones((1, 4, 8, 8), np.float32), None)
        w, h = np.ptp(columns) + 1.0, np.ptp(rows) + 1.0
        wide = w * self.wider
        x = columns.min() + (w - wide) / 2 + self.right * wide
        return response_of([x, rows.min(), wide, h], CropMap((0.0, 0.0), 1.0, 128))


def plain(box_correction):
    """Options without the online filter, for which `Habit` has no features."""
    return BoxHeadOptions(box_correction=box_correction, online_filter=False)


def film(boxes, size=(160, 240)):
    for x, y, w, h in boxes:
        frame = np.zeros((*size, 3), np.uint8)
        frame[y : y + h, x : x + w] = 255
        yield frame


PATH = [(60 + 2 * k, 60 + k, 40, 30) for k in range(25)]


def overlaps(tracker, path=PATH):
    frames = list(film(path))
    tracker.init(frames[0], path[0])
    return [iou(tracker.update(f).box, b) for f, b in zip(frames[1:], path[1:], strict=True)]


def test_the_measured_correction_restores_the_given_box():
    drawn = np.array([108.0, 57.0, 50.0, 24.0])
    correction = BoxCorrection.from_boxes(drawn[None], GIVEN, share=1.0)
    # By hand: the center is 13 px of 50 too far right, 1 px of 24 too high.
    assert correction == pytest.approx((13 / 50, -1 / 24, np.log(50 / 40), np.log(24 / 20)))
    crop_map = CropMap((50.0, 20.0), 1.5, 128)
    corrected = correction.apply(response_of(drawn, crop_map))
    np.testing.assert_allclose(
        box_near(corrected, crop_map, GIVEN[:2] + GIVEN[2:] / 2, 16), GIVEN, 1e-4
    )


def test_share_scales_the_correction():
    drawn = np.array([[100.0, 60.0, 50.0, 20.0]])
    whole, half = (BoxCorrection.from_boxes(drawn, GIVEN, share) for share in (1.0, 0.5))
    assert half == pytest.approx(tuple(v / 2 for v in whole))
    assert BoxCorrection.from_boxes(drawn, GIVEN, 0.0) == NO_CORRECTION


def test_one_outlier_does_not_change_the_median():
    same = np.tile(GIVEN, (4, 1))
    astray = np.array([[400.0, 10.0, 300.0, 5.0]])
    assert BoxCorrection.from_boxes(np.concatenate([same, astray]), GIVEN, 1.0) == pytest.approx(
        (0,) * 4
    )


def test_corrections_are_limited():
    correction = BoxCorrection.from_boxes(np.array([[0.0, 0.0, 400.0, 2.0]]), GIVEN, share=1.0)
    assert correction.log_scale_w == pytest.approx(np.log(1.5))
    assert correction.log_scale_h == pytest.approx(-np.log(1.5))
    assert correction.shift_y == pytest.approx(-0.3)


@pytest.mark.parametrize(
    "drawn",
    [np.empty((0, 4)), [[np.nan, 0, 1, 1]], [[0, 0, np.inf, 1]], [[0, 0, 0, 1]], [[0, 0, 1, -1]]],
)
def test_no_correction_without_usable_boxes(drawn):
    assert BoxCorrection.from_boxes(np.array(drawn), GIVEN, 1.0) == NO_CORRECTION


def test_only_cells_that_respond_near_the_target_count():
    crop_map = CropMap((0.0, 0.0), 1.0, 128)
    seen = response_of([50, 50, 20, 20], crop_map)
    assert box_near(seen, crop_map, np.array([60.0, 60.0]), 16) is not None
    assert box_near(seen, crop_map, np.array([10.0, 10.0]), 16) is None  # another thing
    assert box_near(replace(seen, ltrb_px=None), crop_map, np.array([60.0, 60.0]), 16) is None


def test_boxes_keep_the_extent_of_the_first_one():
    """A network that draws wide boxes leaves the one that was asked for; the option stops it."""
    kept = overlaps(Tracker(Habit(1.25, 0.1), plain(1.0)))
    left = overlaps(Tracker(Habit(1.25, 0.1), plain(0.0)))
    assert min(kept) > 0.93
    assert max(left[10:]) < 0.8


def test_an_unbiased_network_is_not_corrected():
    left, corrected = (overlaps(Tracker(Habit(), plain(f))) for f in (0.0, 1.0))
    np.testing.assert_allclose(left, corrected, atol=0.04)  # pixels of the crop


def test_axes_cut_by_the_border_are_not_corrected():
    """The box ends at the frame's left border, where the network's cannot be wrong."""
    tracker = Tracker(Habit(wider=1.4), plain(1.0))
    tracker.init(next(film([(0, 60, 40, 30)])), (-5, 60, 45, 30))
    assert tracker.state.box_correction.log_scale_w == tracker.state.box_correction.shift_x == 0
    tracker.init(next(film([(60, 0, 40, 30)])), (60, 0, 40, 30))
    assert tracker.state.box_correction.log_scale_w > 0.2
    assert tracker.state.box_correction.log_scale_h == tracker.state.box_correction.shift_y == 0


def test_disabled_correction_saves_the_forward_passes_of_init():
    engine = Habit()
    Tracker(engine, plain(0.0)).init(next(film(PATH)), PATH[0])
    assert engine.crops == 0
    Tracker(engine, plain(0.5)).init(next(film(PATH)), PATH[0])
    assert engine.crops == 5


def test_each_target_has_its_own_correction():
    engine = Habit(wider=1.25)
    single = overlaps(Tracker(engine, plain(1.0)))
    many = MultiTracker(lambda: Tracker(engine, plain(1.0)))
    frames = list(film(PATH))
    target = many.add(frames[0], PATH[0])
    found = [iou(many.update(f)[target].box, b) for f, b in zip(frames[1:], PATH[1:], strict=True)]
    assert found == single


@pytest.mark.parametrize("value", [-0.1, 1.1, "much"])
def test_shares_out_of_range_are_refused(value):
    with pytest.raises(ConfigError, match="box_correction"):
        BoxHeadOptions(box_correction=value)
