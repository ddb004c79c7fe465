"""Pairs and triplets against full enumeration."""

from __future__ import annotations

from collections import Counter
from itertools import combinations, permutations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from siamtrack.errors import ConfigError, TrainingError
from siamtrack.losses import count_triplets, sample_pairs, sample_triplets
from siamtrack.losses.mining import mine_triplets

IDENTITIES = np.array([5, 1, 5, 3, 5, 1, 8])
ONLINE = ("random", "batch-all", "batch-hard", "semi-hard")


def every_triplet(ids: list[int] | np.ndarray) -> set[tuple[int, ...]]:
    return {(a, p, n) for a, p, n in permutations(range(len(ids)), 3) if ids[a] == ids[p] != ids[n]}


def as_set(rows: np.ndarray | torch.Tensor) -> set[tuple[int, ...]]:
    listed = [tuple(row) for row in rows.tolist()]
    assert len(set(listed)) == len(listed), "drawn twice"
    return set(listed)


@given(st.lists(st.integers(-3, 3), max_size=9))
def test_all_triplets_are_numbered_once(ids: list[int]) -> None:
    expected = every_triplet(ids)
    assert count_triplets(ids) == len(expected)
    assert as_set(sample_triplets(ids, 10_000, np.random.default_rng(0))) == expected


@given(st.lists(st.integers(0, 3), max_size=9), st.integers(0, 99), st.integers(1, 12))
def test_drawn_triplets_are_triplets(ids: list[int], seed: int, count: int) -> None:
    got = as_set(sample_triplets(ids, count, np.random.default_rng(seed)))
    assert got <= every_triplet(ids)
    assert len(got) == min(count, len(every_triplet(ids)))


def test_drawn_triplets_are_equally_likely(rng: np.random.Generator) -> None:
    ids = [0, 0, 0, 1, 1, 2]
    seen = Counter(tuple(sample_triplets(ids, 1, rng)[0].tolist()) for _ in range(4400))
    assert seen.keys() == every_triplet(ids)
    # 26 triplets, 169 expected of each, standard deviation 13.
    assert all(110 < times < 230 for times in seen.values())


def test_triplets_of_a_data_set_are_drawn_without_enumerating_them(
    rng: np.random.Generator,
) -> None:
    ids = np.repeat(np.arange(600), 50)
    assert count_triplets(ids) == 30_000 * 49 * 29_950
    triplets = sample_triplets(rng.permutation(ids), 1000, rng)
    assert len(as_set(triplets)) == 1000
    assert len(np.unique(triplets[:, 0])) > 900


@given(st.lists(st.integers(0, 3), max_size=9), st.integers(0, 99))
def test_pairs_are_balanced_and_right(ids: list[int], seed: int) -> None:
    pairs, same = sample_pairs(ids, None, np.random.default_rng(seed))
    every = list(combinations(range(len(ids)), 2))
    possible = [ids[i] == ids[j] for i, j in every]
    each = min(sum(possible), len(possible) - sum(possible))
    assert same.sum() == (~same).sum() == each
    assert [ids[i] == ids[j] for i, j in pairs] == same.tolist()
    assert len({frozenset(pair) for pair in pairs.tolist()}) == len(pairs)


def test_pairs_can_be_any_pair(rng: np.random.Generator) -> None:
    seen = set()
    for _ in range(300):
        seen |= {tuple(sorted(pair)) for pair in sample_pairs(IDENTITIES, 2, rng)[0].tolist()}
    assert seen == set(combinations(range(7), 2))


def test_number_of_pairs_can_be_limited(rng: np.random.Generator) -> None:
    pairs, same = sample_pairs(np.arange(1000) // 2, 65, rng)
    assert len(pairs) == 64
    assert same.sum() == 32


def test_draws_repeat_with_the_seed() -> None:
    drawn = [
        sample_triplets(IDENTITIES, 5, np.random.default_rng(seed)).tolist() for seed in (3, 3, 4)
    ]
    assert drawn[0] == drawn[1] != drawn[2]


@pytest.mark.parametrize("count", [0, -1, 2.5, True])
def test_counts_that_are_not_positive_integers_are_refused(
    count: int, rng: np.random.Generator
) -> None:
    with pytest.raises(ConfigError, match="count of triplets"):
        sample_triplets(IDENTITIES, count, rng)
    with pytest.raises(ConfigError, match="count of pairs"):
        sample_pairs(IDENTITIES, count, rng)


def test_identities_must_be_a_list(rng: np.random.Generator) -> None:
    with pytest.raises(TrainingError, match=r"shape \(2, 2\)"):
        sample_triplets(np.zeros((2, 2)), 5, rng)


def mine(
    mining: str,
    distances: np.ndarray,
    ids: np.ndarray = IDENTITIES,
    margin: float = 0.3,
    max_triplets: int = 1000,
) -> torch.Tensor:
    return mine_triplets(
        mining,  # type: ignore[arg-type]
        torch.from_numpy(distances),
        torch.from_numpy(ids),
        margin=margin,
        max_triplets=max_triplets,
        rng=np.random.default_rng(0),
    )


def some_distances(rng: np.random.Generator, count: int = 7) -> np.ndarray:
    half = rng.uniform(0, 1, (count, count))
    return (half + half.T) * (1 - np.eye(count))


def test_batch_all_is_all(rng: np.random.Generator) -> None:
    assert as_set(mine("batch-all", some_distances(rng))) == every_triplet(IDENTITIES)


def test_random_draws_one_triplet_for_each_anchor_and_positive(rng: np.random.Generator) -> None:
    got = as_set(mine("random", some_distances(rng)))
    assert got < every_triplet(IDENTITIES)
    assert len(got) == 3 * 2 + 2 * 1


def test_batch_hard_takes_the_worst_of_each_anchor(rng: np.random.Generator) -> None:
    d = some_distances(rng)
    expected = set()
    for a in range(7):
        mine_, others = [], []
        for b in range(7):
            if b != a:
                (mine_ if IDENTITIES[a] == IDENTITIES[b] else others).append((d[a, b], b))
        if mine_ and others:
            expected.add((a, max(mine_)[1], min(others)[1]))
    assert len(expected) == 5
    assert as_set(mine("batch-hard", d)) == expected


@pytest.mark.parametrize("margin", [0.05, 0.3, 2.0])
def test_semi_hard_takes_the_nearest_negative_in_the_band(
    rng: np.random.Generator, margin: float
) -> None:
    d = some_distances(rng)
    expected = set()
    for a, p in permutations(range(7), 2):
        if IDENTITIES[a] != IDENTITIES[p]:
            continue
        band = [
            (d[a, n], n)
            for n in range(7)
            if IDENTITIES[n] != IDENTITIES[a] and d[a, p] < d[a, n] < d[a, p] + margin
        ]
        if band:
            expected.add((a, p, min(band)[1]))
    assert as_set(mine("semi-hard", d, margin=margin)) == expected


def test_hand_worked_mining() -> None:
    # Rows 0, 1, 2 are one target on a line at 0, 1, 3; rows 3 and 4 others at 2 and -1.5.
    at = np.array([0.0, 1.0, 3.0, 2.0, -1.5])
    d, ids = np.abs(at[:, None] - at), np.array([0, 0, 0, 1, 2])
    assert as_set(mine("batch-hard", d, ids)) == {(0, 2, 4), (1, 2, 3), (2, 0, 3)}
    # Only (0, 1) has a negative just beyond the positive: row 4 at 1.5. Ties do not count.
    assert as_set(mine("semi-hard", d, ids, margin=1.0)) == {(0, 1, 4), (1, 2, 4)}
    assert as_set(mine("semi-hard", d, ids, margin=0.5)) == set()


@pytest.mark.parametrize("mining", ONLINE)
@pytest.mark.parametrize("ids", [[], [1], [1, 2, 3], [4, 4, 4]], ids=str)
def test_batches_without_triplets_give_none(
    mining: str, ids: list[int], rng: np.random.Generator
) -> None:
    got = mine(mining, some_distances(rng, len(ids)), np.array(ids, dtype=np.int64))
    assert got.shape == (0, 3)
    assert got.dtype == torch.int64


@pytest.mark.parametrize("mining", ONLINE)
def test_max_triplets_limits_the_triplets(mining: str, rng: np.random.Generator) -> None:
    d = some_distances(rng)
    thin = as_set(mine(mining, d, margin=2.0, max_triplets=3))
    assert len(thin) == 3
    assert thin <= every_triplet(IDENTITIES)
    if mining != "random":
        assert thin <= as_set(mine(mining, d, margin=2.0))


def test_unknown_mining_is_refused_with_the_nearest(rng: np.random.Generator) -> None:
    with pytest.raises(ConfigError, match="did you mean 'batch-hard'"):
        mine("batch_hard", some_distances(rng))
    with pytest.raises(ConfigError, match="unknown mining 'offline'"):
        mine("offline", some_distances(rng))


def test_distances_must_be_those_of_the_rows(rng: np.random.Generator) -> None:
    with pytest.raises(TrainingError, match=r"\(6, 6\)"):
        mine("batch-hard", some_distances(rng, 6))


@pytest.mark.parametrize("identities", [[[1], [1, 2]], [None, None, 1], [np.nan, np.nan, 1.0]])
def test_identities_that_cannot_be_compared_are_refused(
    identities: list[object], rng: np.random.Generator
) -> None:
    for sample in (sample_pairs, sample_triplets):
        with pytest.raises(TrainingError, match="identities cannot be compared"):
            sample(identities, 4, rng)  # type: ignore[operator]


def test_distances_that_are_no_tensor_are_refused(rng: np.random.Generator) -> None:
    with pytest.raises(TrainingError, match="distances is a list"):
        mine_triplets("batch-all", [[0.0]], torch.tensor([0]), 0.2, 4, rng)  # type: ignore[arg-type]
