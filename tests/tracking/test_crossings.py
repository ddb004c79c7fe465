"""Targets that cross: twins keep their identity or are doubted, others are left alone."""

import numpy as np
import pytest

from siamtrack.engines.base import Exemplar, Response
from siamtrack.geometry import iou
from siamtrack.models.lite0 import Lite0Config
from siamtrack.tracking.multi import MultiTracker
from siamtrack.tracking.options import BoxHeadOptions
from siamtrack.tracking.tracker import Tracker

SIDE = 40
FRAME_WH = (640, 360)
TWINS, TRIPLETS, DIFFERENT = (0, 0, 1), (0, 0, 0), (0, 1, 2)


class SeesSquares:
    """Sees a square per color channel; the later channel hides the earlier ones behind it.

    Args:
        looks: what the square of each channel looks like; equal numbers look alike.
    """

    name, precision, device, architecture = "sees-squares", "f32", "cpu", "none"
    config = Lite0Config()
    cells = 16

    def __init__(self, looks):
        self.looks = looks

    def embed_exemplar(self, crops, boxes_xywh):
        middle = self.config.exemplar_size_px // 2
        front = [max(np.flatnonzero(crop[middle, middle] > 127)) for crop in crops]
        return Exemplar(([self.looks[channel] for channel in front],), len(crops))

    def stack(self, exemplars):
        return Exemplar(([look for e in exemplars for look in e.tensors[0]],), len(exemplars))

    def track(self, exemplar, crops):
        cells = (len(crops), self.cells, self.cells)
        logits = np.full(cells, -6.0, np.float32)
        ltrb = np.full((len(crops), 4, *cells[1:]), 20.0, np.float32)
        features = np.zeros((len(crops), 4, *cells[1:]), np.float32)
        features[:, 3] = 1.0  # the ground
        stride, middle = self.config.total_stride, (self.cells - 1) / 2
        centers = (np.arange(self.cells) - middle) * stride + self.config.search_size_px / 2
        owns = exemplar.tensors[0] * (len(crops) // len(exemplar.tensors[0]))
        for k, (crop, own) in enumerate(zip(crops, owns, strict=True)):
            for channel, (x, y, right, bottom) in visible(crop):
                look = self.looks[channel]
                at = (y + bottom) / 2, (x + right) / 2
                row, column = (int(np.abs(centers - c).argmin()) for c in at)
                logits[k, row, column] = 4.0 if look == own else 1.5
                ltrb[k, :, row, column] = (
                    centers[column] - x, centers[row] - y,
                    right - centers[column], bottom - centers[row],
                )  # fmt: skip
                features[k, :, row, column] = np.eye(4)[look]
        return Response(logits, ltrb, None, features)


def visible(crop):
    """Channel and left, top, right, bottom of the squares that none in front hides by half."""
    front = []
    for channel in (2, 1, 0):
        rows, columns = (np.flatnonzero((crop[..., channel] > 127).any(axis=a)) for a in (1, 0))
        if min(len(rows), len(columns)) < 12:
            continue
        x, y, right, bottom = columns[0], rows[0], columns[-1] + 1, rows[-1] + 1
        box = (x, y, right - x, bottom - y)
        if not any(iou(box, other) > 1 / 3 for other in front):
            front.append(box)
            yield channel, (x, y, right, bottom)


def draw(corners):
    image = np.zeros((FRAME_WH[1], FRAME_WH[0], 3), np.uint8)
    image[:] = np.linspace(0, 120, FRAME_WH[0])[:, None]  # ground, so that no cut is seen
    for channel, (x, y) in enumerate(np.round(corners).astype(int)):
        image[y : y + SIDE, x : x + SIDE, channel] = 255
    return image


def make(looks):
    # The boxes of this network are exact, its features are not.
    return MultiTracker(lambda: Tracker(SeesSquares(looks), BoxHeadOptions(filter_center=0.0)))


def follow(paths, looks):
    """Results of all frames of a film; `paths` is (frames, targets, 2) left top corners."""
    many = make(looks)
    for corner in paths[0]:
        many.add(draw(paths[0]), (*corner, SIDE, SIDE))
    return [many.update(draw(corners)) for corners in paths[1:]]


def lines(start, step, frames=60):
    return np.array(start) + np.arange(frames)[:, None, None] * np.array(step, float)


def overlaps(results, corners):
    boxes = np.array([result.box for result in results.values()])
    return iou(boxes, np.array([(*corner, SIDE, SIDE) for corner in corners]))


CROSSING = lines([(100, 160), (380, 170)], [(5, 0), (-5, 0)])
APPROACH = CROSSING[:28]
WAITING = np.concatenate(
    [APPROACH, np.repeat(APPROACH[-1:], 40, 0), APPROACH[-1] + CROSSING[:25] - CROSSING[0]]
)


@pytest.mark.parametrize("looks", [TWINS, DIFFERENT])
@pytest.mark.parametrize("step", [5, 9])
def test_two_that_pass_each_other_keep_their_identity(looks, step):
    paths = lines([(100, 160), (380, 170)], [(step, 0), (-step, 0)], 300 // step)
    results = follow(paths, looks)
    assert overlaps(results[-1], paths[-1]).min() > 0.9
    assert [result.status for result in results[-1].values()] == ["tracked", "tracked"]


@pytest.mark.parametrize("looks", [TRIPLETS, DIFFERENT])
def test_three_that_cross_keep_their_identity(looks):
    paths = lines([(100, 160), (380, 170), (240, 20)], [(5, 0), (-5, 0), (0, 5)])
    results = follow(paths, looks)
    assert overlaps(results[-1], paths[-1]).min() > 0.9


@pytest.mark.parametrize("paths", [np.concatenate([APPROACH, APPROACH[::-1]]), WAITING])
def test_different_targets_may_touch_and_turn_or_wait(paths):
    results = follow(paths, DIFFERENT)
    assert overlaps(results[-1], paths[-1]).min() > 0.9


def test_twins_that_wait_behind_each_other_are_uncertain():
    results = follow(WAITING, TWINS)
    statuses = {result.status for result in results[-1].values()}
    assert overlaps(results[-1], WAITING[-1]).min() > 0.9 or statuses == {"uncertain"}


def test_another_target_is_a_negative_of_the_filter():
    still = lines([(100, 160), (170, 160)], [(0, 0), (0, 0)], 12)
    many, alone = make(DIFFERENT), Tracker(SeesSquares(DIFFERENT), BoxHeadOptions())
    for corner in still[0]:
        many.add(draw(still[0]), (*corner, SIDE, SIDE))
    alone.init(draw(still[0]), (*still[0][0], SIDE, SIDE))
    for corners in still[1:]:
        many.update(draw(corners))
        alone.update(draw(corners))
    filters = [many._trackers[0].state.online_filter, alone.state.online_filter]
    assert not np.array_equal(filters[0].weights, filters[1].weights)
    np.testing.assert_array_equal(filters[0].first_weights, filters[1].first_weights)
