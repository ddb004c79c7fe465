"""After a loss a look-alike may be found: the target takes over when it comes back."""

import cv2
import numpy as np
import pytest
from skimage import data

import siamtrack
from siamtrack.geometry import iou
from siamtrack.models.lite0 import Lite0Config
from siamtrack.models.siamfc import SiamFCConfig
from siamtrack.tracking.decode import BoxHead, ScalePyramid
from siamtrack.tracking.options import BoxHeadOptions, ScalePyramidOptions
from siamtrack.tracking.redetection import NO_DOUBT, Doubt

SIDE_PX = 70
GONE, ALIKE, BACK, END = 15, 30, 50, 80  # frames


LIKE, TARGET = (80, 250, SIDE_PX, SIDE_PX), (420, 40, SIDE_PX, SIDE_PX)


def film(other):
    """A cat's face leaves, something like it appears, then it comes back itself, elsewhere."""
    background = cv2.cvtColor(data.rocket(), cv2.COLOR_RGB2BGR)
    face = cv2.cvtColor(data.chelsea(), cv2.COLOR_RGB2BGR)[60:260, 130:330]
    face = cv2.resize(face, (SIDE_PX, SIDE_PX), interpolation=cv2.INTER_AREA)
    for frame in range(END):
        image = background.copy()
        x, y = (60 + 2 * frame, 150) if frame < GONE else TARGET[:2]
        if frame < GONE or frame >= BACK:
            image[y : y + SIDE_PX, x : x + SIDE_PX] = face
        if frame >= ALIKE:
            image[LIKE[1] : LIKE[1] + SIDE_PX, LIKE[0] : LIKE[0] + SIDE_PX] = other(face)
        yield image, (x, y, SIDE_PX, SIDE_PX)


def upside_down(face):
    return cv2.flip(face, 0)


def other_colours(face):
    return np.ascontiguousarray(cv2.flip(face, 1)[..., ::-1])


def followed(other, **options):
    """Results, and which of the two the box is on: "like", "target" or None."""
    tracker = siamtrack.load(device="cpu", **options)
    results = []
    for image, box in film(other):
        results.append(tracker.update(image) if tracker.initialised else tracker.init(image, box))
    on = [
        next((n for n, b in (("like", LIKE), ("target", TARGET)) if iou(r.box, b) > 0.5), None)
        for r in results
    ]
    return results, on


@pytest.mark.parametrize("other", [upside_down, other_colours])
def test_the_target_takes_over_from_what_was_taken_for_it(other):
    results, on = followed(other)
    assert "lost" in {r.status for r in results[GONE:ALIKE]}
    assert on[BACK - 1] == "like"  # there is nothing better yet
    assert "target" in on[BACK : BACK + 10]
    assert set(on[BACK + 10 :]) == {"target"}
    assert results[-1].status == "tracked"


@pytest.mark.parametrize("options", [{"verify_frames": 0}, {"switch_score": 1.0}])
def test_without_doubt_it_never_does(options):
    _, on = followed(upside_down, **options)
    assert set(on[BACK:]) == {"like"}


def test_after_the_doubt_what_was_found_is_believed_and_nothing_else_is_looked_at():
    tracker = siamtrack.load(device="cpu", verify_frames=10)
    windows = []
    for image, box in film(upside_down):
        if not tracker.initialised:
            tracker.init(image, box)
            continue
        windows.append(len(tracker.look(image)[1]))
        tracker.update(image)
    found = windows.index(4)  # the first frame in which it was lost
    assert set(windows[:found]) == {1}
    assert sum(count == 4 for count in windows[ALIKE:]) <= 10 + 5
    assert set(windows[-30:]) == {1}


@pytest.mark.parametrize(
    ("doubt", "before", "now", "jumped", "expected"),
    [
        (NO_DOUBT, "tracked", "tracked", False, NO_DOUBT),
        (NO_DOUBT, "tracked", "lost", False, NO_DOUBT),
        (NO_DOUBT, "lost", "lost", False, NO_DOUBT),
        (NO_DOUBT, "lost", "tracked", False, Doubt(60, 0.8)),
        (Doubt(60, 0.7), "tracked", "uncertain", False, Doubt(59, 0.71)),
        (Doubt(1, 0.7), "tracked", "tracked", False, Doubt(0, 0.71)),
        (Doubt(5, 0.7), "tracked", "tracked", True, Doubt(60, 0.8)),
        (Doubt(5, 0.7), "uncertain", "lost", False, NO_DOUBT),
    ],
)
def test_doubt_begins_with_finding_and_ends_in_time(doubt, before, now, jumped, expected):
    after = doubt.after(before, now, 0.8, jumped=jumped, frames=60)
    assert (after.frames, after.standing) == (expected.frames, pytest.approx(expected.standing))


def test_only_a_better_place_overrules():
    head = BoxHead(Lite0Config(), BoxHeadOptions(switch_score=0.9))
    assert head.overrules(0.95, 0.94) and not head.overrules(0.95, 0.95)
    assert head.overrules(0.9, 0.1) and not head.overrules(0.89, 0.1)
    assert BoxHead(Lite0Config(), BoxHeadOptions(redetect_windows=0)).verify_frames == 0
    pyramid = ScalePyramid(SiamFCConfig(), ScalePyramidOptions())
    assert pyramid.verify_frames == 0 and not pyramid.overrules(1.0, 0.0)
