import numpy as np
import pytest

from siamtrack.tracking.decode import Candidate, calibrated_score
from siamtrack.tracking.options import BoxHeadOptions
from siamtrack.tracking.tracker import Presence

OPTIONS = BoxHeadOptions(tracked_above=0.5, lost_below=0.2, lost_after=3, found_after=2)


def statuses(scores):
    presence, out = Presence(), []
    for score in scores:
        presence = presence.after(score, OPTIONS)
        out.append(presence.status[0])
    return "".join(out)


@pytest.mark.parametrize(
    ("scores", "expected"),
    [
        ([0.9, 0.9], "tt"),
        ([0.9, 0.1, 0.9], "tut"),  # one bad frame is no loss
        ([0.1, 0.1, 0.1, 0.1], "uull"),
        ([0.1, 0.1, 0.3, 0.1, 0.1, 0.1], "uuuuul"),  # loss needs bad frames in a row
        ([0.1] * 3 + [0.9, 0.9], "uullt"),  # and so does being found
        ([0.1] * 3 + [0.9, 0.4, 0.9, 0.9], "uullllt"),
        ([0.3] * 6, "uuuuuu"),  # neither here nor there
    ],
)
def test_status_has_a_memory(scores, expected):
    assert statuses(scores) == expected


def seen(peak_logit, similarity=0.5, margin=3.0):
    return Candidate(np.zeros(4), peak_logit, similarity, margin)


def test_score_is_the_logistic_curve_of_the_peak_where_the_other_cues_have_no_weight():
    options = BoxHeadOptions(score_gain=2.0, score_offset=1.0)
    assert calibrated_score(seen(1.0), options) == pytest.approx(0.5)
    assert calibrated_score(seen(2.0), options) == pytest.approx(1 / (1 + 2.718281828**-2))
    assert calibrated_score(seen(-1e6), options) == 0.0
    assert calibrated_score(seen(1e6), options) == 1.0


def test_each_cue_counts_by_its_weight():
    options = BoxHeadOptions(
        score_gain=2.0, score_offset=1.0, score_similarity=3.0, score_margin=0.5
    )
    log_odds = 2.0 * (0.2 - 1.0) + 3.0 * 0.4 + 0.5 * -1.0
    score = calibrated_score(seen(0.2, similarity=0.4, margin=-1.0), options)
    assert score == pytest.approx(1 / (1 + np.exp(-log_odds)))
