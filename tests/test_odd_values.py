"""Values of odd kinds, in options, boxes, sources and weights: taken, or one line of ours."""

import struct
import zlib
from fractions import Fraction

import numpy as np
import pytest
import torch

import siamtrack
from siamtrack.errors import ConfigError, InvalidBoxError, SiamTrackError, WeightsError
from siamtrack.geometry import parse_box
from siamtrack.tracking.options import BoxHeadOptions
from siamtrack.utils.config import parse_value


def test_numbers_of_numpy_are_options():
    options = BoxHeadOptions(
        lost_after=np.int64(5), window_influence=np.float32(0.25), size_lr=Fraction(1, 2),
        online_filter=np.bool_(False),
    )  # fmt: skip
    plain = BoxHeadOptions(lost_after=5, window_influence=0.25, size_lr=0.5, online_filter=False)
    assert options == plain and type(options.lost_after) is int


HUGE = 10**5000  # has no decimal text


@pytest.mark.parametrize(
    ("name", "value"),
    [("lost_after", 10**400), ("budget_ms", 10**400), ("score_gain", np.inf), ("size_lr", 1j),
     ("score_offset", -np.inf), ("lost_after", np.float64(5)), ("lost_after", HUGE), (HUGE, 1)],
    ids=range(8),
)  # fmt: skip
def test_other_numbers_are_refused_in_one_line(name, value):
    with pytest.raises(ConfigError) as refused:
        BoxHeadOptions.from_mapping({name: value})
    assert "\n" not in str(refused.value) and len(str(refused.value)) < 1000


@pytest.mark.parametrize("text", ["9" * 5000, "[" * 3000])
def test_values_without_end_are_refused(text):
    with pytest.raises(ConfigError, match="too long or nested too deeply"):
        parse_value(text)


@pytest.mark.parametrize(
    "box",
    [
        (10**400, 10, 20, 20),
        (True, 10, 20, 20),
        np.ones(4, bool),
        np.array([30 + 5j, 79, 44, 34]),
        np.array([30, 79, 44, 34], "timedelta64[s]"),
        np.array(["2020-01-01"] * 4, "datetime64[D]"),
        np.ma.masked_array([30.0, 79, 44, 34], mask=[0, 0, 1, 0]),
        [30, np.timedelta64(7, "s"), 44, 34],
    ],
)
def test_what_is_no_coordinate_is_refused(box):
    with pytest.raises(InvalidBoxError, match="not numeric"):
        parse_box(box)


def test_tensors_and_unmasked_arrays_are_boxes():
    numbers = [30.0, 79, 44, 34]
    for box in (torch.tensor(numbers, requires_grad=True), np.ma.masked_array(numbers)):
        assert parse_box(box).tolist() == numbers


@pytest.mark.parametrize(
    "weights", [5, True, b"siamfc", ["siamfc"], "x" * 5000, "a\0b", "a\0b.pth"]
)
def test_odd_weights_are_refused(weights):
    with pytest.raises(WeightsError):
        siamtrack.load(weights)


@pytest.mark.parametrize(
    ("source", "more"),
    [("a\0b", {}), (b"a\0b", {}), ("\ud800", {}), (HUGE, {}), (["x" * 5000], {}), (True, {}),
     ("x", {"fps": np.nan}), ("x", {"timeout_s": 1e300}), ("x", {"live": "yes"})],
    ids=range(9),
)  # fmt: skip
def test_odd_sources_are_refused(source, more):
    with pytest.raises(SiamTrackError):
        siamtrack.open_source(source, **more)


def test_a_small_matlab_file_does_not_fill_the_memory(tmp_path):
    packer = zlib.compressobj()
    data = packer.compress(struct.pack("<II", 14, 80 << 20))
    data += b"".join(packer.compress(bytes(1 << 20)) for _ in range(80)) + packer.flush()
    head = b"MATLAB 5.0 MAT-file".ljust(124) + struct.pack("<HH", 0x0100, 0x4D49)
    path = tmp_path / "bomb.mat"
    path.write_bytes(head + struct.pack("<II", 15, len(data)) + data)
    with pytest.raises(WeightsError, match="unpacks to more than 64 MB"):
        siamtrack.load(path)
