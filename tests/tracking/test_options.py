import json

import pytest

import siamtrack
from siamtrack.errors import ConfigError
from siamtrack.models.weights import find_weights, read_card
from siamtrack.tracking.old_names import OLD_NAMES, rename_options
from siamtrack.tracking.options import BoxHeadOptions, ScalePyramidOptions


def test_unknown_options_name_the_nearest():
    with pytest.raises(ConfigError, match=r"unknown tracker option 'window'.*'window_influence'"):
        BoxHeadOptions.from_mapping({"window": 0.3})
    with pytest.raises(ConfigError, match="scale_step"):
        ScalePyramidOptions.from_mapping({"scale_stop": 1.1})


def test_known_options_are_taken():
    assert BoxHeadOptions.from_mapping({"size_lr": 0.5}).size_lr == 0.5
    assert ScalePyramidOptions.from_mapping({"scale_num": 5}).scale_num == 5


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
        (BoxHeadOptions, "size_lr", 2),
        (BoxHeadOptions, "min_peak", 2),
        (BoxHeadOptions, "online_filter", 1),
        (BoxHeadOptions, "online_filter", "yes"),
        (BoxHeadOptions, "filter_lr", 1.1),
        (BoxHeadOptions, "filter_min_peak", float("nan")),
        (BoxHeadOptions, "filter_min_score", -0.1),
        (BoxHeadOptions, "filter_score_gain", 0.0),
        (BoxHeadOptions, "filter_score_margin", -1.0),
        (BoxHeadOptions, "look_around_below", 1.1),
        (BoxHeadOptions, "look_around_accept", -0.1),
        (ScalePyramidOptions, "scale_num", 2),
        (ScalePyramidOptions, "scale_num", 17),
        (ScalePyramidOptions, "scale_step", 0.9),
        (ScalePyramidOptions, "scale_penalty", 1.1),
        (ScalePyramidOptions, "scale_lr", -0.1),
        (ScalePyramidOptions, "response_up", 0),
    ],
)
def test_bad_values_are_refused_by_name(options, name, value):
    with pytest.raises(ConfigError, match=f"{name} is"):
        options(**{name: value})


def test_old_names_are_renamed_with_a_warning():
    with pytest.warns(FutureWarning, match="'scan_crops' is now 'redetect_windows'"):
        assert rename_options({"scan_crops": 2, "lost_after": 3}) == {
            "redetect_windows": 2,
            "lost_after": 3,
        }


def test_every_old_name_stands_for_an_option_of_today():
    made = {f for kind in (BoxHeadOptions, ScalePyramidOptions) for f in kind.__dataclass_fields__}
    assert set(OLD_NAMES.values()) <= made
    assert not set(OLD_NAMES) & made


def test_an_option_is_not_given_under_both_names():
    with pytest.raises(ConfigError, match="'min_peak' is given twice"):
        rename_options({"min_peak": 0.1, "hold_below": 0.2})


def test_load_takes_an_old_name_over_the_card():
    with pytest.warns(FutureWarning, match="'size_rate' is now 'size_lr'"):
        tracker = siamtrack.load(device="cpu", engine="onnx", size_rate=0.5)
    assert tracker.options.size_lr == 0.5


def test_a_card_with_old_names_loads_silently(tmp_path):
    weights = find_weights("siamtrack-nano")
    for suffix in (".safetensors", ".json"):
        (tmp_path / f"old{suffix}").write_bytes(weights.with_suffix(suffix).read_bytes())
    card = json.loads((tmp_path / "old.json").read_text())
    new_to_old = {new: old for old, new in OLD_NAMES.items()}
    card["tracker"] = {new_to_old.get(k, k): v for k, v in card["tracker"].items()}
    assert "framing" in card["tracker"]
    (tmp_path / "old.json").write_text(json.dumps(card))
    tracker = siamtrack.load(tmp_path / "old.safetensors", device="cpu", engine="torch")
    assert tracker.options == BoxHeadOptions(**read_card("siamtrack-nano").tracker)
