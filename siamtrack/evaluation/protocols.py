"""Conventions of each data set's evaluation, as data; `docs/evaluation.md` has them in prose.

Figures of two protocols are not comparable, not even on the same result files.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from siamtrack.errors import ConfigError

FAMILIES = ("ope", "sre", "tre", "realtime", "corruptions", "failures", "picks", "supervised")
"""Families of variants, see `runs.variants_of`: what `siamtrack eval --protocol` takes."""


@dataclass(frozen=True, slots=True)
class Protocol:
    """Conventions of one family of data sets; `name` is that of reports.

    Attributes:
        layout: of result files and their number format, see `store`.
        overlap: `toolkit_clipping` clips boxes to the frame as GOT-10k's toolkit does.
        given_box_counts: the first frame, whose box was given, counts with overlap 1 (OTB);
            otherwise it is left out.
        absent_frames_count: frames without a true box are misses (OTB, which has none);
            otherwise they are left out.
        success_points: overlap thresholds of the success curve, evenly spaced from 0 to 1.
        pool_frames: one mean over the frames of all sequences, long sequences weigh more
            (GOT-10k); otherwise the mean over sequences of their means.
        headline: keys of `FIGURES` that papers quote, most important first.
        truth_withheld: only the first box is public; results are submitted to a server.
    """

    name: str
    layout: Literal["otb", "got10k", "vot", "clips"]
    overlap: Literal["plain", "toolkit_clipping"] = "plain"
    given_box_counts: bool = False
    absent_frames_count: bool = False
    success_points: int = 21
    pool_frames: bool = False
    headline: tuple[str, ...] = ("success_auc", "precision_20px")
    truth_withheld: bool = False


_OTB_FIGURES = ("success_auc", "precision_20px", "success_rate_50")

OTB = Protocol("OTB", "otb", given_box_counts=True, absent_frames_count=True, headline=_OTB_FIGURES)
UAV = Protocol("UAV123", "otb", given_box_counts=True, headline=_OTB_FIGURES)
LASOT = Protocol(
    "LaSOT",
    "otb",
    given_box_counts=True,
    headline=("success_auc", "precision_20px", "normalised_precision"),
)
GOT10K = Protocol(
    "GOT-10k",
    "got10k",
    overlap="toolkit_clipping",
    success_points=101,
    pool_frames=True,
    headline=("average_overlap", "success_rate_50", "success_rate_75"),
)
GOT10K_TEST = Protocol("GOT-10k test", "got10k", headline=(), truth_withheld=True)
TRACKINGNET_TEST = Protocol("TrackingNet test", "otb", headline=(), truth_withheld=True)
CLIPS = Protocol(
    "clips",
    "clips",
    headline=("success_auc", "average_overlap", "precision_20px", "normalised_precision"),
)
VOT = Protocol("VOT", "vot", headline=("accuracy", "robustness"))
FAILURES = Protocol("failures", "clips", headline=("failures_per_1000", "average_overlap"))
PICKS = Protocol(
    "picks",
    "clips",
    headline=("wrong_picks_per_1000", "poor_picks_per_1000", "success_auc"),
)

AUC_FRAMES = (100, 250, 500, 1000)
"""Success AUC is also taken over the first so many counted frames of every sequence."""

FIGURES: dict[str, tuple[str, bool]] = {
    "success_auc": ("AUC", True),
    "average_overlap": ("AO", True),
    "success_rate_50": ("SR 0.50", True),
    "success_rate_75": ("SR 0.75", True),
    "precision_20px": ("P 20 px", True),
    "normalised_precision": ("norm. P", True),
    "accuracy": ("accuracy", True),
    "robustness": ("failures", False),
    "failures_per_1000": ("failures per 1,000", False),
    "wrong_picks_per_1000": ("IoU < 0.1 per 1,000", False),
    "poor_picks_per_1000": ("IoU < 0.5 per 1,000", False),
    **{f"success_auc_{count}": (f"AUC, first {count}", True) for count in AUC_FRAMES},
    "fps": ("fps", True),
}
"""Field name to (heading, whether higher is better)."""

PER_1000 = frozenset(name for name in FIGURES if name.endswith("_per_1000"))
"""Figures that pool the frames of all sequences: events are few, and short sequences have fewer."""


def heading(figure: str) -> str:
    """Column heading of a figure, a key of `FIGURES`."""
    if figure not in FIGURES:
        raise ConfigError(f"no figure named {figure!r}; there are {', '.join(FIGURES)}")
    return FIGURES[figure][0]


def digits(figure: str) -> int:
    """Decimals of a figure in tables."""
    return 1 if figure in PER_1000 or figure in ("fps", "robustness") else 3
