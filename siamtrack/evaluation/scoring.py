"""From result files to figures: every entrant of an evaluation, variant by variant."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from siamtrack.errors import EvaluationError
from siamtrack.evaluation import protocols
from siamtrack.evaluation.plan import Entrant
from siamtrack.evaluation.protocols import Protocol
from siamtrack.evaluation.scores import SequenceScore, Summary, Truth, score_sequence, summarise
from siamtrack.evaluation.sequence import EvalSequence
from siamtrack.evaluation.statistics import Interval
from siamtrack.evaluation.store import ResultStore
from siamtrack.evaluation.variants import Variant
from siamtrack.evaluation.vot import VotScore, accuracy_and_robustness, score_supervised

SEED = 20160916
"""Of every bootstrap: the same results give the same intervals."""


@dataclass(frozen=True, slots=True)
class TrackerScores:
    """One tracker in one variant.

    Attributes:
        entrant: the tracker.
        sequences: name to score, in the data set's order; sequences without a result are missing.
        summary: over them; None for supervised runs or without any score.
        supervised: accuracy and robustness of supervised runs, else empty.
        missing: sequence to the reason why it has no score.
    """

    entrant: Entrant
    sequences: Mapping[str, SequenceScore | VotScore]
    summary: Summary | None
    supervised: Mapping[str, Interval]
    missing: Mapping[str, str]


def protocol_for(protocol: Protocol, variant: Variant) -> Protocol:
    """How runs of a variant are scored: VOT's protocol is for supervised runs alone."""
    if protocol.layout == "vot" and variant.family != "supervised":
        return replace(protocols.CLIPS, name="one pass on VOT", layout="vot")
    return protocol


def score_entrant(
    entrant: Entrant,
    sequences: Mapping[str, EvalSequence],
    protocol: Protocol,
    variant: Variant,
    store: ResultStore,
) -> TrackerScores:
    """Score everything one tracker has results for.

    Args:
        entrant: the tracker.
        sequences: those that were to be run.
        protocol: of the data set.
        variant: which runs.
        store: where the results are.
    """
    rng = np.random.default_rng(SEED)
    scores: dict[str, SequenceScore | VotScore] = {}
    missing: dict[str, str] = {}
    for name, sequence in sequences.items():
        try:
            if variant.family == "supervised":
                scores[name] = _supervised(entrant, sequence, store)
            else:
                scores[name] = _one(entrant, sequence, protocol, variant, store)
        except EvaluationError as error:
            missing[name] = str(error)
    if variant.family == "supervised":
        vot = [score for score in scores.values() if isinstance(score, VotScore)]
        figures = accuracy_and_robustness(vot, rng) if vot else {}
        return TrackerScores(entrant, scores, None, figures, missing)
    plain = [score for score in scores.values() if isinstance(score, SequenceScore)]
    summary = summarise(protocol_for(protocol, variant), plain, rng) if plain else None
    return TrackerScores(entrant, scores, summary, {}, missing)


def _one(
    entrant: Entrant,
    sequence: EvalSequence,
    protocol: Protocol,
    variant: Variant,
    store: ResultStore,
) -> SequenceScore:
    run = store.read(variant.name, entrant.key, sequence.name)
    path = store.boxes_path(variant.name, entrant.key, sequence.name)
    start = variant.start_frame(sequence.truth.visible)
    truth = Truth(
        sequence.truth.boxes_xywh[start:], sequence.truth.visible[start:], sequence.truth.bound_wh
    )
    rules = protocol_for(protocol, variant)
    return score_sequence(rules, run.boxes(path), truth, run.times_s, name=str(path))


def _supervised(entrant: Entrant, sequence: EvalSequence, store: ResultStore) -> VotScore:
    run = store.read("supervised", entrant.key, sequence.name)
    height, width = sequence.frames.read(0).shape[:2]
    return score_supervised(sequence, run, (width, height))


def common_sequences(trackers: Sequence[TrackerScores]) -> list[str]:
    """Sequences that every tracker has a score for, in order: what comparisons are made on."""
    if not trackers:
        return []
    first = trackers[0].sequences
    return [name for name in first if all(name in other.sequences for other in trackers)]
