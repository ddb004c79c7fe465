"""Which options a search takes, and what it refuses."""

import pytest

from siamtrack.errors import ConfigError
from siamtrack.tracking.options import BoxHeadOptions, ScalePyramidOptions
from siamtrack.tuning.ranges import DEFAULT_RANGES, Range, read_ranges

BOX = BoxHeadOptions()


@pytest.mark.parametrize("kind", [BoxHeadOptions, ScalePyramidOptions])
def test_default_ranges_by_kind_of_options(kind):
    ranges = read_ranges(kind())
    assert ranges == DEFAULT_RANGES[kind] and len(ranges) >= 4
    for name, found in ranges.items():
        assert found.low <= getattr(kind(), name) <= found.high


def test_given_ranges_replace_the_defaults(tmp_path):
    file = tmp_path / "ranges.toml"
    file.write_text("size_lr = [0, 1]\nlost_after = [2, 10, 4]\n")
    ranges = read_ranges(BOX, file, ["size_lr=0.2:0.5", "window_influence=0.1:0.9"])
    assert ranges == {
        "size_lr": Range(0.2, 0.5),
        "lost_after": Range(2, 10, 4),
        "window_influence": Range(0.1, 0.9),
    }
    assert isinstance(ranges["lost_after"].low, int)
    assert isinstance(read_ranges(BOX, None, ["size_lr=0:1"])["size_lr"].low, float)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("windowinfluence=0:1", "did you mean 'window_influence'?"),
        ("window_influence=0.5:0.5", "from 0.5 to 0.5; give low below high"),
        ("window_influence=0.6:0.2", "from 0.6 to 0.2; give low below high"),
        ("window_influence=0.6", "give two numbers"),
        ("window_influence=0:1:0.1:2", "give two numbers"),
        ("window_influence=low:high", "give two numbers"),
        ("window_influence=true:1", "give two numbers"),
        ("lost_after=1.5:8", "give two integers"),
        ("window_influence=0:1:0", "has the step 0.0"),
        ("window_influence=0:1:2", "has the step 2.0"),
        ("window_influence", "write option=low:high"),
        ("window_influence=0:1.5", "high end of a range cannot be used: window_influence is 1.5"),
        ("lost_below=0:0.9", "high end of a range cannot be used: lost_below is 0.9"),
    ],
)
def test_malformed_ranges_are_rejected(text, said):
    with pytest.raises(ConfigError) as caught:
        read_ranges(BOX, None, [text])
    assert said in str(caught.value)


def test_options_that_limit_each_other_can_be_searched_together():
    ranges = read_ranges(BOX, None, ["lost_below=0:0.6", "tracked_above=0.3:0.9"])
    assert ranges["lost_below"].high > ranges["tracked_above"].low


def test_unreadable_files_are_rejected(tmp_path):
    file = tmp_path / "ranges.toml"
    with pytest.raises(ConfigError, match="cannot read ranges"):
        read_ranges(BOX, file)
    file.write_text("size_lr = [0, ")
    with pytest.raises(ConfigError, match="is not TOML"):
        read_ranges(BOX, file)
    file.write_text("size_lr = 3\n")
    with pytest.raises(ConfigError, match="give two numbers"):
        read_ranges(BOX, file)


def test_old_names_in_files_and_texts_are_renamed_with_a_warning(tmp_path):
    file = tmp_path / "ranges.toml"
    file.write_text("size_rate = [0.1, 0.3]\n")
    with pytest.warns(FutureWarning, match="'size_rate' is now 'size_lr'"):
        assert read_ranges(BOX, file)["size_lr"] == Range(0.1, 0.3)
    with pytest.warns(FutureWarning, match="'hold_below' is now 'min_peak'"):
        assert read_ranges(BOX, None, ["hold_below=0:0.2"])["min_peak"] == Range(0.0, 0.2)
