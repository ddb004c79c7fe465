from __future__ import annotations

import numpy as np
import pytest

from siamtrack.data.pseudo.agreement import track_back, track_out
from siamtrack.geometry import iou

KEEP = {"min_agreement": 0.6, "min_run": 3}


@pytest.fixture
def numbered(scene):
    """A clip whose frames say their number, and its boxes."""
    images, boxes = scene()
    for number, image in enumerate(images):
        image[0, 0] = number
    return images, boxes


def both_ways(tracker, images, start, box):
    return track_back(tracker, images, track_out(tracker, images, start, box), **KEEP)


def test_a_tracker_that_is_right_both_ways_keeps_every_frame(numbered, template_tracker) -> None:
    images, boxes = numbered
    track = both_ways(template_tracker(), images, 12, boxes[12])
    assert (iou(track.boxes, boxes) > 0.99).all()
    assert (track.agreement > 0.99).all()
    assert track.scores[12] == 1.0 and (np.delete(track.scores, 12) == 0.9).all()


def test_a_tracker_that_slides_off_keeps_nothing(numbered, template_tracker) -> None:
    # After k frames it is k px off, and k more on the way back. The patch is 36 px wide, so that
    # the ways agree by less than 0.6 where they are 9 px or more apart: it does not come home.
    images, boxes = numbered
    track = both_ways(template_tracker(slide_px=2.0), images, 0, boxes[0])
    assert np.isnan(track.boxes).all()


def test_half_of_the_way_is_kept_where_the_whole_does_not_lead_home(
    numbered, template_tracker
) -> None:
    images, boxes = numbered
    track = both_ways(template_tracker(slide_px=3.0, slides=lambda n: n >= 16), images, 0, boxes[0])
    kept = np.isfinite(track.scores)
    assert kept[:15].all() and not kept[15:].any()
    assert (iou(track.boxes[:15], boxes[:15]) > 0.99).all()


def test_the_way_ends_where_the_target_is_lost(numbered, template_tracker) -> None:
    images, boxes = numbered
    track = both_ways(template_tracker(lost=[20]), images, 5, boxes[5])
    assert np.flatnonzero(np.isfinite(track.scores)).tolist() == list(range(20))


def test_the_way_ends_at_a_cut(numbered, template_tracker) -> None:
    images, boxes = numbered
    images = [*images[:10], *(255 - image[::-1, ::-1] for image in images[10:])]
    ways = track_out(template_tracker(), images, 5, boxes[5])
    assert [way.numbers for way in ways] == [[5, 6, 7, 8, 9], [5, 4, 3, 2, 1, 0]]


def test_the_way_ends_where_frames_have_another_size(numbered, template_tracker) -> None:
    images, boxes = numbered
    images = [*images[:10], *(np.repeat(image, 2, axis=1) for image in images[10:])]
    ways = track_out(template_tracker(), images, 8, boxes[8])
    assert [way.numbers[-1] for way in ways] == [9, 0]


def test_the_way_is_as_long_as_asked(numbered, template_tracker) -> None:
    images, boxes = numbered
    ways = track_out(template_tracker(), images, 10, boxes[10], reach=2)
    assert [way.numbers for way in ways] == [[10, 11, 12], [10, 9, 8]]


def test_a_way_back_that_is_far_off_is_given_up(numbered, template_tracker) -> None:
    images, boxes = numbered
    ways = track_out(template_tracker(), images, 0, boxes[0])
    astray = template_tracker(slide_px=40.0)
    track = track_back(astray, images, ways, **KEEP)
    assert np.isnan(track.boxes).all()
    assert astray.updates == 10, "five frames from the end, and five from half way"


def test_a_way_back_that_misses_the_start_box_proves_nothing(numbered, template_tracker) -> None:
    images, boxes = numbered
    ways = track_out(template_tracker(), images, 0, boxes[0])
    misses = template_tracker(slide_px=12.0, slides=lambda n: n <= 2)
    assert np.isnan(track_back(misses, images, ways, **KEEP).boxes).all()


def test_runs_shorter_than_asked_are_dropped(numbered, template_tracker) -> None:
    images, boxes = numbered
    ways = track_out(template_tracker(), images, 0, boxes[0])
    # Out, the boxes of frames 3 and 6 to 9 are wrong: 4 and 5 are a run of two.
    for number in (3, 6, 7, 8, 9):
        ways[0].boxes[number] += [0, 30, 0, 0]
    kept = np.isfinite(track_back(template_tracker(), images, ways, **KEEP).scores)
    assert np.flatnonzero(~kept).tolist() == [3, 4, 5, 6, 7, 8, 9]
