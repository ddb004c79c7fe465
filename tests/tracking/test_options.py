import pytest

from siamtrack.errors import ConfigError
from siamtrack.tracking.options import BoxHeadOptions, ScalePyramidOptions


def test_unknown_options_name_the_nearest():
    with pytest.raises(ConfigError, match=r"unknown tracker option 'window'.*'window_influence'"):
        BoxHeadOptions.from_mapping({"window": 0.3})
    with pytest.raises(ConfigError, match="scale_step"):
        ScalePyramidOptions.from_mapping({"scale_stop": 1.1})


def test_known_options_are_taken():
    assert BoxHeadOptions.from_mapping({"size_rate": 0.5}).size_rate == 0.5
    assert ScalePyramidOptions.from_mapping({"scale_count": 5}).scale_count == 5


@pytest.mark.parametrize(
    ("options", "name", "value"),
    [
        (BoxHeadOptions, "window_influence", 1.5),
        (BoxHeadOptions, "window_influence", "much"),
        (BoxHeadOptions, "window_influence", float("nan")),
        (BoxHeadOptions, "score_gain", 0.0),
        (BoxHeadOptions, "score_similarity", -1.0),
        (BoxHeadOptions, "score_margin", -1.0),
        (BoxHeadOptions, "tracked_above", -0.1),
        (BoxHeadOptions, "lost_below", 0.9),
        (BoxHeadOptions, "lost_after", 0),
        (BoxHeadOptions, "lost_after", 2.5),
        (BoxHeadOptions, "found_after", True),
        (BoxHeadOptions, "shape_penalty", -1),
        (BoxHeadOptions, "size_rate", 2),
        (BoxHeadOptions, "hold_below", 2),
        (ScalePyramidOptions, "scale_count", 2),
        (ScalePyramidOptions, "scale_count", 17),
        (ScalePyramidOptions, "scale_step", 0.9),
        (ScalePyramidOptions, "scale_penalty", 1.1),
        (ScalePyramidOptions, "scale_rate", -0.1),
        (ScalePyramidOptions, "response_upsampling", 0),
    ],
)
def test_bad_values_are_refused_by_name(options, name, value):
    with pytest.raises(ConfigError, match=f"{name} is"):
        options(**{name: value})
