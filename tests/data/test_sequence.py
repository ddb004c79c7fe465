"""Sequences and data sets: what every format hands out."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from siamtrack.data.sequence import Dataset, VideoSequence
from siamtrack.errors import ConfigError, DatasetError, Problem, dataset_error

Writer = Callable[..., Path]


class Grays:
    """Frames that hold their number."""

    def __init__(self, count: int) -> None:
        self.count = count

    def __len__(self) -> int:
        return self.count

    def read(self, index: int) -> np.ndarray:
        return np.full((4, 4, 3), index, np.uint8)

    def iterate(self, indices):
        return map(self.read, indices)

    def path(self, index: int) -> Path:
        return Path("grays")

    def key(self, index: int) -> str:
        return f"grays#{index}"


def a_sequence(number: int = 0, count: int = 3) -> VideoSequence:
    if number == 7:
        raise DatasetError("sequence 7 is broken")
    boxes = np.tile([1.0, 2.0, 3.0, 4.0], (count, 1))
    return VideoSequence(f"s{number}", "video", Grays(count), boxes)


def a_dataset(names: tuple[str, ...] = ("s0", "s1")) -> Dataset:
    return Dataset(spec="x:y", kind="x", root=Path("y"), names=names, load=a_sequence)


# Sequences


def test_absent_and_hidden_frames_have_nan_boxes_and_are_not_visible() -> None:
    boxes = [[1, 2, 3, 4], [np.nan] * 4, [5, 6, 7, 8], [np.nan, 2, 3, 4]]
    sequence = VideoSequence("a", "video", Grays(4), np.array(boxes), np.array([1, 1, 0, 1], bool))
    assert sequence.visible.tolist() == [True, False, False, False]
    assert np.isnan(sequence.boxes[1:]).all()
    assert sequence.boxes[0].tolist() == [1, 2, 3, 4]
    assert sequence.boxes.dtype == np.float64
    assert sequence.degenerate == ()


@pytest.mark.parametrize("sentinel", [(0, 0, 0, 0), (-1, -1, -1, -1), (1, 1, 0, 0), (2, 2, -1, -1)])
def test_boxes_without_any_side_mean_absent(sentinel: tuple[int, ...]) -> None:
    sequence = VideoSequence("a", "video", Grays(2), np.array([[1, 2, 3, 4], sentinel], float))
    assert sequence.visible.tolist() == [True, False]
    assert sequence.degenerate == ()


def test_boxes_with_one_side_are_noted_as_mistakes() -> None:
    boxes = np.array([[1, 2, 3, 4], [371, 0, 150, 0], [1125, 730, -1, 10]], float)
    sequence = VideoSequence("a", "video", Grays(3), boxes)
    assert sequence.visible.tolist() == [True, False, False]
    assert sequence.degenerate == (1, 2)


def test_a_sequence_keeps_its_own_boxes() -> None:
    boxes = np.ones((2, 4))
    sequence = VideoSequence("a", "video", Grays(2), boxes)
    boxes[:] = 99
    assert (sequence.boxes == 1).all()
    with pytest.raises(ValueError, match="read-only"):
        sequence.boxes[0, 0] = 5


@pytest.mark.parametrize(("boxes", "visible"), [((2, 4), None), ((3, 5), None), ((3, 4), (2,))])
def test_numbers_of_frames_and_boxes_must_agree(boxes, visible) -> None:
    flags = None if visible is None else np.ones(visible, bool)
    with pytest.raises(DatasetError, match="for 3 frames") as caught:
        VideoSequence("a", "video", Grays(3), np.ones(boxes), flags, meta={"annotation": "a.txt"})
    assert [(p.kind, p.path) for p in caught.value.problems] == [("count-differs", Path("a.txt"))]


def test_frames_are_read_by_number_in_turn_and_by_selection() -> None:
    sequence = a_sequence(count=5)
    assert len(sequence) == 5
    assert sequence.read(3)[0, 0, 0] == 3
    assert [int(f[0, 0, 0]) for f in sequence.iter_frames()] == [0, 1, 2, 3, 4]
    assert [int(f[0, 0, 0]) for f in sequence.iter_frames([4, 1])] == [4, 1]
    assert sequence.image_key(2) == "grays#2"


# Data sets


def test_a_dataset_is_indexed_by_number_and_name() -> None:
    dataset = a_dataset()
    assert len(dataset) == 2
    assert dataset[1].name == dataset["s1"].name == dataset[-1].name == "s1"
    assert [s.name for s in dataset] == ["s0", "s1"]
    with pytest.raises(IndexError, match="sequence 2 of 2"):
        dataset[2]


def test_an_unknown_sequence_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match="did you mean 's0'"):
        a_dataset()["seq0"]
    with pytest.raises(ConfigError, match="no sequence 'qqq' among its 2"):
        a_dataset()["qqq"]


def test_two_sequences_of_one_name_are_refused() -> None:
    with pytest.raises(DatasetError, match="two sequences called 'a'"):
        a_dataset(("a", "b", "a"))


def test_broken_sequences_stop_iteration_and_are_left_out_when_asked(caplog) -> None:
    dataset = a_dataset(tuple(f"s{n}" for n in range(9)))
    with pytest.raises(DatasetError, match="sequence 7 is broken"):
        list(dataset)
    assert [s.name for s in dataset.usable()] == [f"s{n}" for n in range(9) if n != 7]
    assert "sequence s7 is left out: sequence 7 is broken" in caplog.text


def test_a_failure_spells_out_the_first_problems_and_carries_all() -> None:
    problems = [Problem(Path(f"{n}.jpg"), "missing-picture", "does not exist") for n in range(5)]
    error = dataset_error("set", problems)
    assert str(error).startswith("set cannot be used: 0.jpg: does not exist; 1.jpg")
    assert "and 2 more" in str(error)
    assert error.problems == tuple(problems)
    assert pickle.loads(pickle.dumps(error)).problems == tuple(problems)
    assert str(problems[0]) == "0.jpg: does not exist [missing-picture]"
