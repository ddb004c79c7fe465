"""The side of the search crop for a steady target, against sides computed by hand."""

import itertools

import pytest

from siamtrack.models.config import Lite0Config
from siamtrack.models.weights import open_weights


@pytest.mark.parametrize(
    ("exemplar", "search", "near"),
    [
        (128, 208, 144),  # 9 cells of 13: 1.125 exemplars are 9 cells
        (128, 256, 160),  # 10 of 16, since 9 of 16 would lie half a cell off the middle
        (96, 144, 112),  # 7 of 9: 6.75 cells are too few
        (96, 160, 128),  # 8 of 10
        (64, 144, 80),  # 5 of 9: 4.5 cells are too few
        (64, 128, 96),  # 6 of 8
        (128, 144, 144),  # the whole crop
        (64, 64, 64),  # never more than it
        (16, 32, 32),
    ],
)
def test_the_near_crop_is_an_eighth_larger_than_the_exemplar(exemplar, search, near):
    config = Lite0Config(exemplar_size_px=exemplar, search_size_px=search, kernel_cells=1)
    assert config.near_size_px == near


def test_its_cells_are_the_middle_ones_of_the_search_crop():
    """As many are left out on either side, and it is the smallest such crop that is large enough.

    A search crop that is smaller than that is the near crop itself.
    """
    for exemplar, search in itertools.product(range(16, 272, 16), range(16, 400, 16)):
        config = Lite0Config(exemplar_size_px=exemplar, search_size_px=search, kernel_cells=1)
        sides = [
            side
            for side in range(16, search + 1, 16)
            if side >= exemplar * 9 / 8 and (search - side) % 32 == 0
        ]
        assert config.near_size_px == min(sides, default=search), (exemplar, search)


@pytest.mark.parametrize(("name", "near"), [("siamtrack-lite0", 144), ("siamtrack-nano", 112)])
def test_of_the_bundled_networks(name, near):
    assert open_weights(name).config.near_size_px == near
