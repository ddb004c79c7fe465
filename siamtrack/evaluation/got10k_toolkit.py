"""Import the got10k toolkit when it is needed, patched for numpy 2, without its output."""

from __future__ import annotations

import contextlib
import importlib
import io
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import numpy as np

from siamtrack.errors import EvaluationError


class _NumpyWithNaN(ModuleType):
    """Numpy with `NaN`, which numpy 2 dropped and the toolkit's VOT code uses."""

    NaN = np.nan

    def __getattr__(self, name: str) -> Any:
        return getattr(np, name)


def toolkit_module(name: str) -> ModuleType:
    """Import `got10k.<name>`.

    Raises:
        EvaluationError: the toolkit, or something it needs and does not declare, is missing.
    """
    try:
        module = importlib.import_module(f"got10k.{name}")
    except ModuleNotFoundError as error:
        raise EvaluationError(
            f"the got10k toolkit cannot be imported ({error}); pip install got10k six wget shapely"
        ) from error
    if name == "experiments.vot" and not isinstance(module.np, _NumpyWithNaN):
        # Besides `NaN` it needs one-element arrays that turn into numbers by themselves.
        poly_iou = module.poly_iou

        def one_or_many(*arguments: Any, **bound: Any) -> Any:
            overlaps = poly_iou(*arguments, **bound)
            return float(overlaps[0]) if len(overlaps) == 1 else overlaps

        vars(module).update(np=_NumpyWithNaN("numpy"), poly_iou=one_or_many)
    return module


@contextlib.contextmanager
def quietly() -> Iterator[io.StringIO]:
    """Collect what the toolkit prints; its warnings about missing sequences are only printed."""
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        yield printed
