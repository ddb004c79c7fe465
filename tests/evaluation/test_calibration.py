"""The score's curve: recovered from data drawn from a known one, and its error by hand."""

import zlib
from dataclasses import replace

import cv2
import numpy as np
import pytest
from scipy.special import expit

from siamtrack.data.sequence import VideoSequence
from siamtrack.engines.base import Exemplar, Response
from siamtrack.errors import DatasetError, OutputError
from siamtrack.evaluation.calibration import (
    Calibration,
    Observations,
    calibrate,
    calibration_curves,
    expected_calibration_error,
    fit,
    leave_one_out,
    log_loss,
    observe,
    probabilities,
    reliability,
)
from siamtrack.evaluation.report.plots import save_reliability
from siamtrack.models.lite0 import Lite0Config
from siamtrack.tracking.decode import Prediction, calibrated_score
from siamtrack.tracking.options import BoxHeadOptions, ScalePyramidOptions
from siamtrack.tracking.tracker import Tracker


def frames(cues, good, weights=None, sequences=None):
    count = len(good)
    cues = np.reshape(np.asarray(cues, np.float64), (count, -1))
    cues = np.column_stack([cues, np.zeros((count, 3 - cues.shape[1]))])
    weights = np.full(count, 1 / count) if weights is None else weights
    sequences = np.zeros(count, np.int64) if sequences is None else sequences
    return Observations(cues, np.asarray(good), weights, sequences)


def error(scores, seen):
    return expected_calibration_error(scores, seen.good, seen.weights)


def drawn(found, count=20_000):
    """Frames of ten sequences whose score is true."""
    rng = np.random.default_rng(0)
    cues = rng.normal([0, 0.3, 2], [3, 0.2, 2], (count, 3))
    unknown = frames(cues, np.zeros(count, bool), sequences=np.arange(count) % 10)
    return unknown._replace(good=rng.random(count) < probabilities(unknown, found))


@pytest.mark.parametrize(
    "made",
    [
        Calibration(1.0, 0.0, 0.0, 0.0),
        Calibration(0.5, -2.0, 3.0, 0.2),
        Calibration(2.0, 1.5, 0, 1),
    ],
)
def test_the_curve_that_made_the_data_is_found(made):
    found = fit(drawn(made))
    assert found.score_gain == pytest.approx(made.score_gain, rel=0.1)
    assert found.score_offset == pytest.approx(made.score_offset, abs=0.5)
    assert found.score_similarity == pytest.approx(made.score_similarity, abs=0.4)
    assert found.score_margin == pytest.approx(made.score_margin, abs=0.1)


def test_no_cue_counts_against_the_target():
    rng = np.random.default_rng(0)
    cues = rng.normal(size=(5000, 3))
    good = rng.random(5000) < expit(cues @ [-1.0, 2.0, -1.0])
    found = fit(frames(cues, good))
    assert found.score_gain > 0
    assert found.score_similarity > 1 and found.score_margin == 0


def test_fitting_makes_scores_true():
    seen = drawn(Calibration(0.5, -2.0, 3.0, 0.2))
    before = error(probabilities(seen, Calibration(1.0, 0.0, 0.0, 0.0)), seen)
    assert before > 0.1 and error(probabilities(seen, fit(seen)), seen) < 0.02


def test_the_score_of_a_tracker_is_the_one_that_was_fitted():
    found = Calibration(0.5, -2.0, 3.0, 0.2)
    seen = drawn(found, count=5)
    options = BoxHeadOptions(online_filter=False, **found._asdict())
    scores = [calibrated_score(Prediction(np.zeros(4), *cues), options) for cues in seen.cues]
    np.testing.assert_allclose(scores, probabilities(seen, found), rtol=1e-9)


def test_with_the_filter_the_fit_is_that_of_its_options():
    """Similarity has no weight there, and the options of the plain score have no say."""
    found = Calibration(0.5, -2.0, 0.0, 4.0)
    plain = BoxHeadOptions(score_gain=9.0, score_offset=9.0, score_similarity=9.0, score_margin=9.0)
    fields = found.to_options(plain)
    assert set(fields) == {"filter_score_gain", "filter_score_offset", "filter_score_margin"}
    seen = drawn(found, count=5)
    scores = [
        calibrated_score(Prediction(np.zeros(4), *cues), replace(plain, **fields))
        for cues in seen.cues
    ]
    np.testing.assert_allclose(scores, probabilities(seen, found), rtol=1e-9)


@pytest.mark.parametrize(
    "options",
    [BoxHeadOptions(), BoxHeadOptions(online_filter=False), ScalePyramidOptions()],
    ids=["filter", "network", "pyramid"],
)
def test_options_give_the_calibration_that_was_put_into_them(options):
    made = Calibration(0.7, -1.5, 0.0, 2.5)
    changed = replace(options, **made.to_options(options))
    assert changed != options
    assert Calibration.from_options(changed) == made


class Guess:
    """An engine with a random opinion of every crop, the highest of its middle; features alike."""

    name, precision, device, architecture = "guess", "f32", "cpu", "none"
    config = Lite0Config(exemplar_size_px=64, search_size_px=144)

    def embed_exemplar(self, crops, boxes_xywh):
        return Exemplar((), len(crops))

    def track(self, exemplar, crops):
        made = []
        for crop in crops:
            rng = np.random.default_rng(zlib.crc32(crop.tobytes()))
            features = rng.normal(size=(6, 9, 9))
            features /= np.linalg.norm(features, axis=0)
            logits, similarity = rng.normal(0, 1, (9, 9)), rng.random((9, 9))
            logits[4, 4] += 8.0
            made.append((logits, np.full((4, 9, 9), 16.0), similarity, features))
        return Response(*(np.stack(v).astype(np.float32) for v in zip(*made, strict=True)))


class Pictures(list):
    """Frames in memory."""

    def iterate(self, indices):
        return (self[k] for k in indices)


@pytest.fixture(scope="module")
def sequences():
    """Two noisy scenes; the truth is half of the time elsewhere, and once nowhere."""
    made = []
    for seed in range(2):
        rng = np.random.default_rng(seed)
        noise = rng.normal(0, 9, (24, 90, 120, 3))  # on a scene that is no cut from the next
        pictures = Pictures((noise + np.linspace(50, 200, 120)[:, None]).astype(np.uint8))
        boxes = np.tile([40.0, 30.0, 24.0, 24.0], (24, 1))
        boxes[9:18, 0], boxes[20] = 90.0, np.nan
        made.append(VideoSequence(f"still{seed}", "video", pictures, boxes))
    return made


# The cosine window alone ranks, and the size stays: the box is where it was.
STILL = {"window_influence": 1.0, "size_lr": 0.0, "box_correction": 0.0, "redetect_windows": 0,
         "look_around_below": 0.0, "filter_center": 0.0}  # fmt: skip
KINDS = [BoxHeadOptions(**STILL), BoxHeadOptions(**STILL, online_filter=False)]


@pytest.mark.parametrize("options", KINDS, ids=["filter", "network"])
def test_observations_are_the_cues_of_the_frames_and_whether_the_box_was_right(options, sequences):
    seen = observe(Guess(), options, sequences)
    tracker, cues = Tracker(Guess(), options), []
    for sequence in sequences:
        tracker.init(sequence.frames[0], sequence.boxes[0])
        for picture in sequence.frames[1:]:
            tracker.update(picture)
            found = tracker.state.last_prediction
            cues.append([found.peak_logit, found.similarity, found.margin])
    cues = np.array(cues)
    assert np.ptp(cues, axis=0).min() > 0
    cues[:, 1] *= not options.online_filter
    np.testing.assert_array_equal(seen.cues, cues)
    # From frame 1 on: right up to frame 8, wrong up to 17, right again but for 20.
    right = [*[True] * 8, *[False] * 9, True, True, False, True, True, True]
    assert seen.good.tolist() == right * 2
    assert seen.sequences.tolist() == [0] * 23 + [1] * 23
    np.testing.assert_allclose(seen.weights, 1 / 46)


@pytest.mark.parametrize("options", KINDS, ids=["filter", "network"])
def test_what_is_fitted_is_what_checking_finds_in_the_options(options, sequences):
    found, seen = calibrate(Guess(), options, sequences)
    assert found == fit(seen)
    assert found.score_similarity == 0 or not options.online_filter
    fitted = replace(options, **found.to_options(options))
    curves, again, present = calibration_curves(Guess(), fitted, sequences, check=True)
    assert present == found
    np.testing.assert_array_equal(curves["as it is"], probabilities(again, found))
    # The tracker's own scores are these probabilities.
    tracker = Tracker(Guess(), fitted)
    tracker.init(sequences[0].frames[0], sequences[0].boxes[0])
    scores = [tracker.update(picture).score for picture in sequences[0].frames[1:]]
    np.testing.assert_allclose(scores, probabilities(again, found)[:23], rtol=1e-9)


def test_separable_frames_have_a_finite_curve():
    logits = np.array([-2.0, -1.0, 1.0, 2.0])
    found = fit(frames(logits, logits > 0))
    assert 0 < found.score_gain < 100 and abs(found.score_offset) < 1
    assert found[2:] == (0, 0)  # nothing is learnt from what never changes


def test_frames_count_by_weight():
    logits = np.array([-1.0, -1.0, 1.0, 1.0])
    good = np.array([False, True, False, True])
    heavy_good = frames(logits, good, np.array([0.1, 0.4, 0.1, 0.4]))
    heavy_bad = frames(logits, good, np.array([0.4, 0.1, 0.4, 0.1]))
    assert (probabilities(heavy_good, fit(heavy_good)) > 0.5).all()
    assert (probabilities(heavy_bad, fit(heavy_bad)) < 0.5).all()


def test_a_sequence_that_is_left_out_has_no_say_in_its_own_scores():
    logits = np.tile([-2.0, -1.0, 1.0, 2.0], 3)
    good = logits > 0
    numbers = np.repeat([3, 5, 8], 4)
    good[numbers == 8] = ~good[numbers == 8]  # the odd one out
    seen = frames(logits, good, sequences=numbers)
    scores = leave_one_out(seen)
    odd = numbers == 8
    np.testing.assert_allclose(
        scores[odd], probabilities(seen.select(odd), fit(seen.select(~odd))), rtol=1e-9
    )
    assert error(scores, seen) > error(probabilities(seen, fit(seen)), seen)
    with pytest.raises(DatasetError, match="one sequence"):
        leave_one_out(seen.select(odd))


def test_reliability_and_error_by_hand():
    scores = np.array([0.1, 0.15, 0.95, 1.0])
    good = np.array([False, True, True, True])
    weights = np.full(4, 0.25)
    mass, promised, found = reliability(scores, good, weights, bins=10)
    assert mass[[1, 9]].tolist() == [0.5, 0.5]
    assert promised[1] == pytest.approx(0.125) and found[1] == 0.5
    assert promised[9] == pytest.approx(0.975) and found[9] == 1.0
    assert np.isnan(found[5])
    expected = 0.5 * 0.375 + 0.5 * 0.025
    assert expected_calibration_error(scores, good, weights) == pytest.approx(expected)


@pytest.mark.parametrize(("value", "says"), [(True, "right"), (False, "wrong")])
def test_one_kind_of_frames_is_no_data(value, says):
    seen = frames(np.zeros(3), np.full(3, value))
    with pytest.raises(DatasetError, match=f"every box was {says}"):
        fit(seen)


def test_the_diagram_is_a_picture_with_a_curve_for_every_fit(tmp_path):
    seen = drawn(Calibration(0.5, -2.0, 3.0, 0.2), count=500)
    curves = {"fitted": probabilities(seen, fit(seen)), "left out": leave_one_out(seen)}
    save_reliability(tmp_path / "r.png", curves, seen.good, seen.weights)
    picture = cv2.imread(str(tmp_path / "r.png"))
    saturated = np.ptp(picture.astype(int), axis=2) > 60
    assert len(np.unique(picture[saturated].round(-1), axis=0)) >= 2
    with pytest.raises(OutputError, match="cannot write"):
        save_reliability(tmp_path / "no" / "r.png", curves, seen.good, seen.weights)


def test_the_log_loss_of_three_frames_by_hand():
    seen = frames([0, 0, 0], [True, False, True], weights=np.array([0.5, 0.25, 0.25]))
    expected = -(0.5 * np.log(0.8) + 0.25 * np.log(0.6) + 0.25 * np.log(1e-6))
    assert log_loss(np.array([0.8, 0.4, 0.0]), seen) == pytest.approx(expected)
