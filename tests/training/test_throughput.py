"""Throughput of loading and training: which rates are measured, not how high they are."""

import pytest

from siamtrack.errors import ConfigError
from siamtrack.training.throughput import as_markdown, measure


def test_every_way_of_running_gets_a_rate(small_run):
    rates = measure(small_run(), frozen=[3, 0], steps=4)
    assert list(rates) == [
        "loading alone",
        "training, 3 stages frozen",
        "training, all layers",
    ]
    assert all(rate > 0 for rate in rates.values())


def test_the_table_gives_pairs_per_hour():
    assert "| loading alone | 12.5 | 45,000 |" in as_markdown({"loading alone": 12.5})


def test_too_few_steps_are_refused(small_run):
    with pytest.raises(ConfigError, match="steps is 3"):
        measure(small_run(), frozen=[0], steps=3)
