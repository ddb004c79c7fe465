from __future__ import annotations

import numpy as np

from siamtrack.data.pseudo.agreement import AgreeingTrack, find_runs, track_back, track_out
from siamtrack.geometry import iou

MIN_AGREEMENT = 0.6


def track_both_out(tracker, images, start, box):
    return track_out(tracker, images, start, box, reach=3, is_object=lambda boxes: True)


def both_ways(tracker, images, start, box):
    return track_back(
        tracker, images, track_both_out(tracker, images, start, box), min_agreement=MIN_AGREEMENT
    )


def test_a_tracker_that_is_right_both_ways_keeps_every_frame(scene, template_tracker) -> None:
    images, boxes = scene()
    track = both_ways(template_tracker(), images, 12, boxes[12])
    assert (iou(track.boxes, boxes) > 0.99).all()
    assert (track.agreement > 0.99).all()
    assert track.scores[12] == 1.0 and (np.delete(track.scores, 12) == 0.9).all()


def test_a_tracker_that_slides_off_proves_no_box(scene, template_tracker) -> None:
    # After k frames it is 2 k px off, and the way back slides on: it does not come home.
    images, boxes = scene()
    track = both_ways(template_tracker(slide_px=2.0), images, 0, boxes[0])
    assert np.flatnonzero(np.isfinite(track.scores)).tolist() == [0], "the start box"


def test_half_of_the_way_is_kept_where_the_whole_does_not_lead_home(
    scene, template_tracker
) -> None:
    images, boxes = scene()
    track = both_ways(template_tracker(slide_px=3.0, slides=lambda n: n >= 16), images, 0, boxes[0])
    kept = np.isfinite(track.scores)
    assert kept[:15].all() and not kept[15:].any()
    assert (iou(track.boxes[:15], boxes[:15]) > 0.99).all()


def test_the_way_ends_where_the_target_is_lost(scene, template_tracker) -> None:
    images, boxes = scene()
    track = both_ways(template_tracker(lost=[20]), images, 5, boxes[5])
    assert np.flatnonzero(np.isfinite(track.scores)).tolist() == list(range(20))


def test_the_way_ends_at_a_cut(scene, template_tracker) -> None:
    images, boxes = scene()
    images = [*images[:10], *(255 - image[::-1, ::-1] for image in images[10:])]
    ways = track_both_out(template_tracker(), images, 5, boxes[5])
    assert [way.numbers for way in ways] == [[5, 6, 7, 8, 9], [5, 4, 3, 2, 1, 0]]


def test_the_way_ends_where_frames_have_another_size(scene, template_tracker) -> None:
    images, boxes = scene()
    images = [*images[:10], *(np.repeat(image, 2, axis=1) for image in images[10:])]
    ways = track_both_out(template_tracker(), images, 8, boxes[8])
    assert [way.numbers[-1] for way in ways] == [9, 0]


def test_what_is_no_object_is_not_followed_on(scene, template_tracker) -> None:
    images, boxes = scene()
    asked = []

    def is_object(so_far):
        asked.append(sorted(so_far))
        return False

    ways = track_out(template_tracker(), images, 10, boxes[10], reach=2, is_object=is_object)
    assert [way.numbers for way in ways] == [[10, 11, 12], [10, 9, 8]]
    assert asked == [[8, 9, 10, 11, 12]]


def test_a_way_back_that_is_far_off_is_given_up(scene, template_tracker) -> None:
    images, boxes = scene()
    ways = track_both_out(template_tracker(), images, 0, boxes[0])
    astray = template_tracker(slide_px=40.0)
    track = track_back(astray, images, ways, min_agreement=MIN_AGREEMENT)
    assert np.isnan(track.boxes[1:]).all()
    assert astray.updates == 10, "five frames from the end, and five from half way"


def test_a_way_back_that_misses_the_start_box_proves_nothing(scene, template_tracker) -> None:
    images, boxes = scene()
    ways = track_both_out(template_tracker(), images, 0, boxes[0])
    misses = template_tracker(slide_px=12.0, slides=lambda n: n <= 2)
    track = track_back(misses, images, ways, min_agreement=MIN_AGREEMENT)
    assert np.isnan(track.boxes[1:]).all()


def test_runs_are_where_both_ways_agree_for_long_enough() -> None:
    boxes = np.tile([50.0, 40, 20, 20], (20, 1))
    agreement, scores = np.full(20, 0.9), np.full(20, 0.9)
    agreement[[3, 6]] = 0.59, np.nan  # 4 and 5 are a run of two
    scores[12] = 0.49
    boxes[17:] = [1.0, 40, 20, 20], [50, 79.5, 20, 20], [50, 40, 149.5, 20]  # at the border
    track = AgreeingTrack(boxes, agreement, scores)
    limits = {"min_agreement": 0.6, "min_score": 0.5, "min_run": 3}
    runs = find_runs(track, (200, 100), **limits)
    assert runs == [range(3), range(7, 12), range(13, 17)]
    nothing = AgreeingTrack(np.full((5, 4), np.nan), np.full(5, np.nan), np.full(5, np.nan))
    assert find_runs(nothing, (200, 100), **limits) == []
