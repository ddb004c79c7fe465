"""The online filter, against dense float64 solutions and loops over the cells of a window."""

import sys
from dataclasses import fields

import numpy as np
import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from siamtrack.tracking import online_filter as of
from siamtrack.tracking.online_filter import (
    AUGMENTATIONS,
    Augmentation,
    OnlineFilter,
    augmented_window,
    conjugate_gradients,
    correlate,
    distractor_weights,
    gaussian_label,
    neighborhoods,
    respond_each,
    row_weights,
    sample_rows,
)

CHANNELS, CELLS = 4, 7
CENTERS = np.array([[3.0, 3.0], [1.4, 4.7], [5.2, 0.3]])  # of the target, in cells, per window


def unit_features(rng, batch):
    made = rng.normal(size=(batch, CHANNELS, CELLS, CELLS))
    return (made / np.linalg.norm(made, axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture
def features(rng):
    return unit_features(rng, len(CENTERS))


@pytest.fixture
def online_filter(features):
    return OnlineFilter.from_first_frame(features, CENTERS)


@pytest.fixture
def window(rng):
    """Features of one more window."""
    return unit_features(rng, 1)[0]


# --- Slow references ------------------------------------------------------------------------------


def slow_rows(features):
    """(R R, 9 C) float64: the 3 x 3 cells around each cell, row by row, zeros outside."""
    rows = []
    for row in range(CELLS):
        for column in range(CELLS):
            values = []
            for y in (row - 1, row, row + 1):
                for x in (column - 1, column, column + 1):
                    inside = 0 <= y < CELLS and 0 <= x < CELLS
                    values.extend(features[:, y, x] if inside else np.zeros(CHANNELS))
            rows.append(values)
    return np.array(rows, np.float64)


def slow_label(center_xy):
    """(R R,) Gaussian around the center."""
    return np.array(
        [
            np.exp(-((x - center_xy[0]) ** 2 + (y - center_xy[1]) ** 2) / 2 / of.SIGMA_CELLS**2)
            for y in range(CELLS)
            for x in range(CELLS)
        ]
    )


def slow_weights(label):
    return (1 + (of.TARGET_WEIGHT - 1) * label) / CELLS**2


def normal_equations(features, center_xy, extra=0.0):
    """Weighted Gram matrix and cross term of all rows of one window, in float64."""
    rows, label = slow_rows(features), slow_label(center_xy)
    weight = slow_weights(label) + extra
    return (rows.T * weight) @ rows, rows.T @ (weight * label)


def first_frame_rows(features):
    """Rows, labels and weights of the windows of the first frame: of the background a checkerboard.

    In float64; a row of the checkerboard stands for two.
    """
    rows, labels, weights = [], [], []
    for number, (window, center) in enumerate(zip(features, CENTERS, strict=True)):
        every, label = slow_rows(window), slow_label(center)
        for index, (row, y) in enumerate(zip(every, label, strict=True)):
            is_target = y > of._TARGET_LABEL
            if is_target or (number + index // CELLS + index % CELLS) % 2 == 0:
                rows.append(row)
                labels.append(y)
                weights.append(slow_weights(y) * (1 if is_target else 2) / len(CENTERS))
    return np.array(rows), np.array(labels), np.array(weights)


def solve(gram, cross, damping):
    return np.linalg.solve(gram + damping * np.eye(len(gram)), cross)


# --- Rows, labels, weights ------------------------------------------------------------------------


def test_rows_are_the_cells_around_each_cell_with_zeros_outside(features):
    found = neighborhoods(features)
    expected = np.concatenate([slow_rows(one) for one in features])
    np.testing.assert_array_equal(found, expected)
    assert found.dtype == np.float32


def test_many_filters_respond_together_as_each_does_alone(features):
    """To the bit: targets must not depend on how many others there are."""
    centers = np.full((1, 2), (CELLS - 1) / 2)
    filters = [OnlineFilter.from_first_frame(features[k : k + 1], centers) for k in range(2)]
    together = respond_each(filters, features[:2])
    same = respond_each(filters[:1], features[:2])  # one filter, two windows
    for k in range(2):
        assert np.array_equal(together[k].mixed, filters[k].respond(features[k]).mixed)
        assert np.array_equal(together[k].first, filters[k].respond(features[k]).first)
        assert np.array_equal(same[k].first, filters[0].respond(features[k]).first)
    assert not np.array_equal(together[1].first, same[1].first)


def test_correlating_is_multiplying_the_rows_with_the_filters(rng, features):
    filters = rng.normal(size=(2, 9 * CHANNELS)).astype(np.float32)
    (found,) = correlate(features[:1], filters[None])
    expected = (slow_rows(features[0]) @ filters.T.astype(np.float64)).T
    np.testing.assert_allclose(found.reshape(2, -1), expected, atol=1e-5)
    fast = neighborhoods(features[:1]) @ filters.T
    np.testing.assert_allclose(found.reshape(2, -1), fast.T, atol=1e-5)
    # Cell by cell, tap by tap.
    taps = filters[1].reshape(3, 3, CHANNELS)
    for row, column in ((0, 0), (0, 3), (6, 6), (4, 2)):
        total = 0.0
        for i in range(3):
            for j in range(3):
                y, x = row + i - 1, column + j - 1
                if 0 <= y < CELLS and 0 <= x < CELLS:
                    total += float(taps[i, j].astype(np.float64) @ features[0][:, y, x])
        assert found[1, row, column] == pytest.approx(total, abs=1e-5)


@pytest.mark.parametrize("center", [(3.0, 3.0), (1.4, 4.7), (-2.0, 3.0), (6.5, 6.5)])
def test_the_label_is_a_gaussian_around_the_center(center):
    label = gaussian_label(np.array(center), CELLS)
    assert label.shape == (CELLS, CELLS) and label.dtype == np.float32
    np.testing.assert_allclose(label.ravel(), slow_label(center), atol=1e-6)


def test_the_label_has_x_along_the_columns():
    label = gaussian_label(np.array([5.0, 1.0]), CELLS)
    assert np.unravel_index(label.argmax(), label.shape) == (1, 5)
    assert label.max() == 1.0


def test_rows_of_the_target_weigh_more():
    weights = row_weights(np.float32([0.0, 0.5, 1.0]), CELLS)
    middle = (1 + of.TARGET_WEIGHT) / 2
    np.testing.assert_allclose(weights * CELLS**2, [1.0, middle, of.TARGET_WEIGHT], rtol=1e-6)


@pytest.mark.parametrize("cells", [5, 9, 13, 16])
def test_an_update_samples_the_target_the_hardest_background_and_some_of_the_rest(rng, cells):
    target = np.zeros(cells**2, bool)
    target[rng.choice(cells**2, 9, replace=False)] = True
    label = np.where(target, rng.uniform(0.2, 1.0, cells**2), 0.0).astype(np.float32)
    response = rng.normal(size=cells**2).astype(np.float32)
    chosen, multiplicity = sample_rows(label, response)
    # Every row at most once, and all rows are stood for.
    assert len(set(chosen.tolist())) == len(chosen) == len(multiplicity)
    assert multiplicity.sum() == pytest.approx(cells**2, rel=1e-6)
    assert multiplicity.min() >= 1
    # All of the target, for itself.
    counts = dict(zip(chosen.tolist(), multiplicity.tolist(), strict=True))
    assert all(counts[row] == 1 for row in np.flatnonzero(target))
    # The hardest of the background, for itself.
    background = sorted(np.flatnonzero(~target), key=lambda row: -response[row])
    hardest = background[: of.BACKGROUND_ROWS // 2]
    assert all(counts[row] == 1 for row in hardest)
    assert len(chosen) <= target.sum() + of.BACKGROUND_ROWS
    # The rest, where it is more than fits, by rows that are spread over it.
    rest = background[len(hardest) :]
    ranks = [rank for rank, row in enumerate(rest) if row in counts]
    assert len(ranks) == min(len(rest), of.BACKGROUND_ROWS // 2)
    assert len({counts[row] for row in rest if row in counts}) <= 1
    if ranks:
        assert ranks[0] == 0 and len(set(np.diff(ranks))) <= 1
        assert ranks[-1] > len(rest) / 2 - 1


def test_sampled_rows_are_the_same_where_responses_tie():
    label = gaussian_label(np.array([3.0, 3.0]), CELLS).ravel()
    first, second = (sample_rows(label, np.zeros(CELLS**2, np.float32))[0] for _ in range(2))
    np.testing.assert_array_equal(first, second)


def test_cells_of_distractors_weigh_more_but_never_those_of_the_target():
    label = gaussian_label(np.array([3.0, 3.0]), CELLS)
    places = [np.array([6.0, 0.0]), np.array([3.0, 3.0]), np.array([1.3, 5.6])]
    expected = np.zeros((CELLS, CELLS))
    for row in range(CELLS):
        for column in range(CELLS):
            near = max(np.exp(-((column - x) ** 2 + (row - y) ** 2) / 2) for x, y in places)
            extra = (of.DISTRACTOR_WEIGHT - 1) * near * (1 - label[row, column])
            expected[row, column] = extra / CELLS**2
    found = distractor_weights(label, places)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert found[3, 3] == 0
    assert found[0, 6] == pytest.approx((of.DISTRACTOR_WEIGHT - 1) / CELLS**2, rel=1e-3)


# --- Solutions ------------------------------------------------------------------------------------


def test_the_first_weights_solve_the_weighted_ridge_regression(features, online_filter):
    """Least squares over the rows of all windows; the ridge as further rows."""
    rows, label, weight = first_frame_rows(features)
    length = rows.shape[1]
    damping = of.RIDGE * sum(w * (row @ row) for w, row in zip(weight, rows, strict=True)) / length
    a = np.concatenate([rows * np.sqrt(weight)[:, None], np.sqrt(damping) * np.eye(length)])
    b = np.concatenate([label * np.sqrt(weight), np.zeros(length)])
    expected, *_ = np.linalg.lstsq(a, b, rcond=None)
    np.testing.assert_allclose(online_filter.first_weights, expected, rtol=1e-2, atol=1e-3)
    np.testing.assert_array_equal(online_filter.weights, online_filter.first_weights)
    assert online_filter.damping == pytest.approx(damping, rel=1e-5)
    assert {getattr(online_filter, f.name).dtype for f in fields(OnlineFilter)[:-1]} == {
        np.dtype(np.float32)
    }


@pytest.mark.parametrize("cells", [7, 8])  # of an even number, a checkerboard has no stripes
def test_the_first_frame_is_the_mean_of_its_windows(rng, monkeypatch, cells):
    monkeypatch.setattr(sys.modules[__name__], "CELLS", cells)
    features = unit_features(rng, len(CENTERS))
    online_filter = OnlineFilter.from_first_frame(features, CENTERS)
    rows, label, weight = first_frame_rows(features)
    np.testing.assert_allclose(online_filter.gram, (rows.T * weight) @ rows, atol=1e-5)
    np.testing.assert_allclose(online_filter.cross, rows.T @ (weight * label), atol=1e-5)
    np.testing.assert_array_equal(online_filter.first_gram, online_filter.gram)
    np.testing.assert_array_equal(online_filter.first_cross, online_filter.cross)


def test_the_response_peaks_on_what_was_learned(rng):
    """One direction of the features marks the target, wherever it is."""
    cells, center = 9, np.array([6.0, 2.0])
    base, mark = np.eye(CHANNELS)[:2]

    def seen(center_xy):
        noise = 0.1 * rng.normal(size=(CHANNELS, cells, cells))
        made = base[:, None, None] + noise
        made += 3 * mark[:, None, None] * gaussian_label(center_xy, cells)
        return (made / np.linalg.norm(made, axis=0)).astype(np.float32)

    first = np.array([[4.0, 4.0], [2.0, 5.0], [5.0, 6.0]])
    learned = OnlineFilter.from_first_frame(np.stack([seen(c) for c in first]), first)
    response = learned.respond(seen(center))
    for one in response:
        assert np.unravel_index(one.argmax(), one.shape) == (2, 6)
        assert one.max() == pytest.approx(1.0, abs=0.35)
        assert np.abs(one[5:]).max() < 0.35


def test_the_response_is_that_of_the_first_weights_and_a_vote(online_filter, window):
    updated = online_filter.updated(
        window, np.array([2.0, 5.0]), online_filter.respond(window).mixed, lr=0.5
    )
    response = updated.respond(window)
    rows = slow_rows(window)
    first, last = (rows @ w.astype(np.float64) for w in (updated.first_weights, updated.weights))
    vote = of.FIRST_WEIGHTS_VOTE
    assert np.abs(first - last).max() > 0.01
    np.testing.assert_allclose(response.first.ravel(), first, atol=1e-4)
    np.testing.assert_allclose(response.mixed.ravel(), vote * first + (1 - vote) * last, atol=1e-4)


@pytest.fixture
def all_rows(monkeypatch):
    """Updates learn every row and are solved exactly."""
    monkeypatch.setattr(of, "BACKGROUND_ROWS", 2 * CELLS**2)
    monkeypatch.setattr(of, "_CG_STEPS", 20 * 9 * CHANNELS)


@pytest.mark.usefixtures("all_rows")
@pytest.mark.parametrize("lr", [0.02, 0.5, 1.0])
def test_an_update_solves_the_running_normal_equations(online_filter, features, window, lr):
    center = np.array([2.3, 4.6])
    updated = online_filter.updated(window, center, online_filter.respond(window).mixed, lr=lr)
    rows, label, weight = first_frame_rows(features)
    gram, cross = (rows.T * weight) @ rows, rows.T @ (weight * label)
    share = of.FIRST_FRAME_SHARE
    new_gram, new_cross = normal_equations(window, center)
    gram_now = (1 - lr) * gram + lr * (share * gram + (1 - share) * new_gram)
    cross_now = (1 - lr) * cross + lr * (share * cross + (1 - share) * new_cross)
    np.testing.assert_allclose(updated.gram, gram_now, atol=1e-5)
    np.testing.assert_allclose(updated.cross, cross_now, atol=1e-5)
    expected = solve(gram_now, cross_now, online_filter.damping)
    np.testing.assert_allclose(updated.weights, expected, rtol=1e-2, atol=1e-3)
    # Nothing else has changed.
    for name in ("first_weights", "first_gram", "first_cross", "damping"):
        assert getattr(updated, name) is getattr(online_filter, name)


@pytest.mark.usefixtures("all_rows")
def test_distractors_weigh_more_in_an_update(online_filter, window):
    center, places = np.array([2.0, 2.0]), [np.array([5.0, 6.0]), np.array([6.0, 1.0])]
    updated = online_filter.updated(
        window, center, online_filter.respond(window).mixed, lr=1.0, distractors_xy=places
    )
    extra = distractor_weights(gaussian_label(center, CELLS), places).ravel()
    new_gram, new_cross = normal_equations(window, center, extra)
    share = of.FIRST_FRAME_SHARE
    gram = share * online_filter.gram + (1 - share) * new_gram
    cross = share * online_filter.cross + (1 - share) * new_cross
    np.testing.assert_allclose(updated.gram, gram, atol=1e-5)
    np.testing.assert_allclose(updated.cross, cross, atol=1e-5)


def test_sampled_rows_stand_for_all_of_them(monkeypatch, online_filter, window):
    """Few rows, each times the number of rows that it stands for."""
    monkeypatch.setattr(of, "BACKGROUND_ROWS", 8)
    center, response = np.array([3.0, 2.0]), online_filter.respond(window).mixed
    updated = online_filter.updated(window, center, response, lr=1.0)
    label = slow_label(center)
    chosen, multiplicity = sample_rows(label.astype(np.float32), response.ravel())
    assert len(chosen) < CELLS**2
    gram = of.FIRST_FRAME_SHARE * online_filter.gram.astype(np.float64)
    for index, count in zip(chosen, multiplicity, strict=True):
        row = slow_rows(window)[index]
        weight = (1 - of.FIRST_FRAME_SHARE) * count * slow_weights(label[index])
        gram += weight * np.outer(row, row)
    np.testing.assert_allclose(updated.gram, gram, atol=1e-5)


def test_many_updates_of_one_window_end_at_its_exact_solution(monkeypatch, online_filter, window):
    """A few steps each; the running mean becomes the first frame's share and the window."""
    monkeypatch.setattr(of, "BACKGROUND_ROWS", 2 * CELLS**2)
    center, lr, share = np.array([4.0, 3.0]), 0.2, of.FIRST_FRAME_SHARE
    new_gram, new_cross = normal_equations(window, center)
    gram = share * online_filter.first_gram + (1 - share) * new_gram
    cross = share * online_filter.first_cross + (1 - share) * new_cross
    exact = solve(gram, cross, online_filter.damping)
    learned, distances = online_filter, []
    for _ in range(120):
        distances.append(np.linalg.norm(learned.weights - exact) / np.linalg.norm(exact))
        learned = learned.updated(window, center, learned.respond(window).mixed, lr=lr)
    assert distances[0] > 0.3
    assert distances[0] > distances[10] > distances[40]
    assert distances[-1] < 0.01
    np.testing.assert_allclose(learned.gram, gram, atol=1e-4)


def test_a_rate_of_0_learns_nothing(online_filter, window):
    updated = online_filter.updated(
        window, np.array([3.0, 3.0]), online_filter.respond(window).mixed, lr=0.0
    )
    np.testing.assert_array_equal(updated.gram, online_filter.gram)
    np.testing.assert_array_equal(updated.cross, online_filter.cross)
    np.testing.assert_allclose(updated.weights, online_filter.weights, atol=1e-3)


def test_conjugate_gradients_reach_the_solution(rng):
    size = 12
    a = rng.normal(size=(30, size))
    gram, cross = (a.T @ a).astype(np.float32), rng.normal(size=size).astype(np.float32)
    start = rng.normal(size=size).astype(np.float32)
    before = start.copy()
    expected = solve(gram.astype(np.float64), cross, 0.5)
    errors = [
        np.linalg.norm(conjugate_gradients(gram, cross, start, 0.5, steps) - expected)
        for steps in (0, 3, 6, size + 2)
    ]
    assert errors[0] > errors[1] > errors[2] > errors[3]
    assert errors[3] < 1e-3
    np.testing.assert_array_equal(start, before)
    # At the solution there is nothing left to divide by.
    zeros = np.zeros(size, np.float32)
    np.testing.assert_array_equal(conjugate_gradients(gram, zeros, zeros, 0.5, 5), zeros)


def test_an_update_changes_no_array_of_the_filter_before(features, online_filter, window):
    arrays = [getattr(online_filter, f.name) for f in fields(OnlineFilter)[:-1]]
    before = [array.copy() for array in arrays]
    given, center = window.copy(), np.array([1.0, 5.0])
    response = online_filter.respond(window).mixed
    kept = response.copy()
    updated = online_filter.updated(
        window, center, response, lr=0.7, distractors_xy=[np.array([5.0, 5.0])]
    )
    again = updated.updated(window, center, response, lr=0.7)
    assert updated is not online_filter and again is not updated
    for array, copy in zip(arrays, before, strict=True):
        np.testing.assert_array_equal(array, copy)
    assert np.abs(updated.weights - online_filter.weights).max() > 0
    np.testing.assert_array_equal(window, given)
    np.testing.assert_array_equal(response, kept)
    assert center.tolist() == [1.0, 5.0]
    with pytest.raises(AttributeError):
        online_filter.damping = 0.0


def test_the_same_windows_give_the_same_filter(features, window):
    def weights():
        learned = OnlineFilter.from_first_frame(features, CENTERS)
        for center in CENTERS:
            learned = learned.updated(window, center, learned.respond(window).mixed, lr=0.1)
        return learned.weights

    np.testing.assert_array_equal(weights(), weights())


# --- Windows of the first frame -------------------------------------------------------------------

TARGET = np.array([130.0, 84.0, 44.0, 30.0])
SIDE_PX, SIZE_PX = 150.0, 192
REACH_PX = 12  # from the center of the target to the second dot, to its right


def dots(target=TARGET, size=(200, 320)):
    """A dark frame; a green dot at the target's center, a red one to the right of it."""
    frame = np.full((*size, 3), 10, np.uint8)
    x, y = (int(v) for v in target[:2] + target[2:] / 2)
    frame[y - 2 : y + 2, x - 2 : x + 2, 1] = 250
    frame[y - 2 : y + 2, x + REACH_PX - 2 : x + REACH_PX + 2, 2] = 250
    return frame


def centroid(channel):
    """(2,) x, y of what is bright, px; pixel i covers [i, i + 1)."""
    bright = np.maximum(channel.astype(np.float64) - 10, 0)
    rows, columns = np.mgrid[: channel.shape[0], : channel.shape[1]] + 0.5
    return np.array([(bright * columns).sum(), (bright * rows).sum()]) / bright.sum()


def cut(augmentation, frame, target=TARGET):
    return augmented_window(
        frame, target, augmentation, side_px=SIDE_PX, size_px=SIZE_PX, fill_bgr=(10.0, 10.0, 10.0)
    )


@pytest.mark.parametrize("number", range(len(AUGMENTATIONS)))
@pytest.mark.parametrize("target", [TARGET, np.array([2.0, 4.0, 44.0, 30.0])])
def test_the_target_is_where_an_augmented_window_says(number, target):
    augmentation, frame = AUGMENTATIONS[number], dots(target)
    before = frame.copy()
    crop, center = cut(augmentation, frame, target)
    assert crop.shape == (SIZE_PX, SIZE_PX, 3) and crop.dtype == np.uint8
    np.testing.assert_allclose(centroid(crop[..., 1]), center, atol=0.3)
    # The window is shifted the other way, in parts of its own side.
    shift_x, shift_y = augmentation.shift
    expected = SIZE_PX * np.array([0.5 + shift_x if augmentation.mirrored else 0.5 - shift_x,
                                   0.5 - shift_y])  # fmt: skip
    np.testing.assert_allclose(center, expected, atol=2.0)
    # What lies to its right lies there mirrored, turned and scaled.
    angle = np.deg2rad(augmentation.turn_deg)
    reach = REACH_PX * SIZE_PX / (SIDE_PX * augmentation.scale) * np.array(
        [-np.cos(angle) if augmentation.mirrored else np.cos(angle), -np.sin(angle)]
    )  # fmt: skip
    np.testing.assert_allclose(centroid(crop[..., 2]) - center, reach, atol=0.5)
    np.testing.assert_array_equal(frame, before)
    np.testing.assert_array_equal(target[2:], [44.0, 30.0])


def test_a_window_without_changes_is_the_plain_one():
    crop, center = cut(Augmentation((0.0, 0.0)), dots())
    np.testing.assert_allclose(center, SIZE_PX / 2, atol=1.0)
    mirrored, other = cut(Augmentation((0.0, 0.0), mirrored=True), dots())
    np.testing.assert_array_equal(mirrored, crop[:, ::-1])
    assert other.tolist() == [SIZE_PX - center[0], center[1]]


def test_a_blurred_window_is_blurred():
    sharp, _ = cut(Augmentation((0.1, 0.1)), dots())
    blurred, _ = cut(Augmentation((0.1, 0.1), blur_px=2.0), dots())
    assert blurred[..., 1].max() < 0.8 * sharp[..., 1].max()
    sums = [np.maximum(c[..., 1].astype(float) - 10, 0).sum() for c in (blurred, sharp)]
    assert sums[0] == pytest.approx(sums[1], rel=0.1)


def test_the_guises_differ_and_keep_the_target_in_the_window():
    crops = [cut(augmentation, dots())[0] for augmentation in AUGMENTATIONS]
    assert len({crop.tobytes() for crop in crops}) == len(AUGMENTATIONS)
    for augmentation in AUGMENTATIONS:
        assert max(map(abs, augmentation.shift)) < 0.4


# --- Threads --------------------------------------------------------------------------------------


def blas_threads():
    return {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"}


def test_it_learns_on_one_thread_and_leaves_as_many_as_before(online_filter, features, monkeypatch):
    """Threads of OpenBLAS that wait for more work would slow down the network."""
    seen = []

    def spy(*arguments):
        seen.append(blas_threads())
        return conjugate_gradients(*arguments)

    monkeypatch.setattr(of, "conjugate_gradients", spy)
    with threadpool_limits(3, "blas"):
        if not blas_threads():
            pytest.skip("the threads of numpy's BLAS cannot be set")
        OnlineFilter.from_first_frame(features, CENTERS)
        mixed = online_filter.respond(features[0]).mixed
        online_filter.updated(features[0], CENTERS[0], mixed, lr=0.1)
        assert blas_threads() == {3}
    assert seen == [{1}, {1}]
