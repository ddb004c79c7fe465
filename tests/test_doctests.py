"""The examples in the docstrings of pure functions."""

import doctest
from importlib import import_module

import pytest


@pytest.mark.parametrize(
    "module",
    [
        "siamtrack.geometry",
        "siamtrack.crops",
        "siamtrack.tracking.decode",
        "siamtrack.tracking.look_alikes",
        "siamtrack.tracking.multi",
        "siamtrack.tracking.online_filter",
        "siamtrack.tracking.result",
        "siamtrack.utils.config",
    ],
)
def test_examples(module):
    results = doctest.testmod(import_module(module))
    assert results.attempted > 0
    assert results.failed == 0
