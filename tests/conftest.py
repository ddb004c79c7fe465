"""What every test shares."""

from __future__ import annotations

import os

import numpy as np
import pytest
from hypothesis import settings

# Plots are drawn to files; a test must never need a screen because of matplotlib.
os.environ.setdefault("MPLBACKEND", "Agg")

# The tests run in a process per core already; threads beside them would only wait for each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# The same examples in every run, and no verdict that depends on how busy the machine is.
settings.register_profile("siamtrack", derandomize=True, deadline=None, database=None)
settings.load_profile("siamtrack")


@pytest.fixture
def rng() -> np.random.Generator:
    """Random numbers, the same in every run."""
    return np.random.default_rng(20160916)
