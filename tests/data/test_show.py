"""The picture of pairs: every pair in its place, with boxes that are the labels."""

import numpy as np
import pytest

from siamtrack.data.augment import AugmentConfig
from siamtrack.data.pairs import PairConfig, PairDataset
from siamtrack.data.show import DISTRACTOR_BGR, OTHER_BGR, TARGET_BGR, draw_pairs
from siamtrack.errors import ConfigError

PLAIN = AugmentConfig(0, 0, 0, 0, 0, 0, 0, distractor=0.5, occluder=0)
BAND, GAP = 18, 4


def has_color(picture, bgr):
    return bool((picture == np.array(bgr, np.uint8)).all(axis=2).any())


def test_labels_are_drawn_in_the_color_that_they_mean(squares):
    pairs = PairDataset(squares, PairConfig(negative=0.4, fill_photo=0.0, augment=PLAIN))
    sheet = draw_pairs(pairs, first=10, count=12, columns=4)
    assert sheet.shape == (3 * (256 + BAND + GAP), 4 * (128 + 256 + GAP), 3)
    kinds = set()
    for number in range(12):
        row, column = divmod(number, 4)
        tile = sheet[row * 278 : (row + 1) * 278, column * 388 : (column + 1) * 388]
        search, pair = tile[BAND : BAND + 256, 128:384], pairs[10 + number]
        positive, beside = bool(pair["positive"]), bool(pair["has_distractor"])
        kinds.add((positive, beside))
        assert has_color(tile[BAND : BAND + 128, :128], TARGET_BGR)
        assert has_color(search, TARGET_BGR) == positive
        assert has_color(search, OTHER_BGR) == (not positive)
        assert has_color(search, DISTRACTOR_BGR) == beside
        x, y = (round(float(v)) for v in pair["x_box"][:2])
        corner = search[np.clip(y, 0, 255), np.clip(x, 0, 255)].tolist()
        assert corner == list(TARGET_BGR if positive else OTHER_BGR)
    assert kinds == {(True, True), (True, False), (False, True), (False, False)}


def test_a_last_row_that_is_not_full_stays_black(squares):
    sheet = draw_pairs(PairDataset(squares, PairConfig()), count=3, columns=2)
    assert sheet.shape == (2 * 278, 2 * 388, 3)
    assert sheet[:278, 388:].any() and not sheet[278:, 388:].any()


@pytest.mark.parametrize("options", [{"first": -1}, {"count": 0}, {"columns": 0}])
def test_impossible_counts_are_refused(squares, options):
    with pytest.raises(ConfigError, match="cannot be drawn"):
        draw_pairs(PairDataset(squares, PairConfig()), **options)
