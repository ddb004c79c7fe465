"""Configuration: parsing, building dataclasses from plain data, ranges, renamed keys."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import pytest

from siamtrack.errors import ConfigError
from siamtrack.utils.config import (
    build,
    check_choice,
    check_number,
    check_ranges,
    parse_assignment,
    parse_assignments,
    parse_value,
    ranged,
    read_toml,
    replace_old_names,
)


@dataclass(frozen=True)
class Inner:
    rate: float = ranged(0.1, above=0.0, below=math.inf)
    steps: int = ranged(10, 1)
    share: float = ranged(0.5, 0.0, below=1.0)
    angle: float = ranged(0.0, -180.0, 180.0)

    def __post_init__(self) -> None:
        check_ranges(self, "inner.")


@dataclass(frozen=True)
class Outer:
    name: str = "x"
    flag: bool = False
    mode: Literal["fast", "exact"] = "fast"
    size: tuple[int, int] = (1, 2)
    many: tuple[float, ...] = ()
    limit: int | None = None
    weights: Mapping[str, float] = field(default_factory=dict)
    extra: Mapping[str, Any] = field(default_factory=dict)
    inner: Inner = field(default_factory=Inner)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("3", 3),
        ("0.5", 0.5),
        ("true", True),
        ('"text"', "text"),
        ("[1, 2]", [1, 2]),
        ("{a = 1}", {"a": 1}),
        (" cosine ", "cosine"),
        ("", ""),
    ],
)
def test_values_are_toml_or_bare_strings(text, value):
    parsed = parse_value(text)
    assert parsed == value and type(parsed) is type(value)


def test_assignments_are_split_at_the_first_equals_sign():
    assert parse_assignment(" url = a=b ") == ("url", "a=b")
    assert parse_assignments(["a=1", "b=x", "a=2"]) == {"a": 2, "b": "x"}


@pytest.mark.parametrize("text", ["rate", "=1", " =1"])
def test_text_without_name_or_equals_sign_is_refused(text):
    with pytest.raises(ConfigError, match=r"is not an assignment; write KEY=VALUE"):
        parse_assignment(text, "KEY=VALUE")


def test_toml_files_that_cannot_be_read_are_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"cannot read ranges .*none\.toml: No such file"):
        read_toml(tmp_path / "none.toml", "ranges")
    bad = tmp_path / "bad.toml"
    bad.write_text("= 3")
    with pytest.raises(ConfigError, match=r"configuration .*bad\.toml is not TOML"):
        read_toml(bad)
    bad.write_bytes(b"a = '\xff'")
    with pytest.raises(ConfigError, match="not UTF-8"):
        read_toml(bad)
    bad.write_text("a = 1\n[b]\nc = 'd'\n")
    assert read_toml(bad) == {"a": 1, "b": {"c": "d"}}


def test_dataclasses_are_built_from_nested_plain_data():
    values = {
        "name": "y",
        "size": [3, 4],
        "many": [1, 2.5],
        "limit": 7,
        "weights": {"a": 1},
        "extra": {"any": ["thing"]},
        "inner": {"rate": 1},
    }
    built = build(Outer, values)
    assert built.size == (3, 4) and built.many == (1.0, 2.5) and built.limit == 7
    assert type(built.inner.rate) is float and type(built.weights["a"]) is float
    assert built.extra == {"any": ["thing"]}
    assert build(Outer, {"limit": None}).limit is None
    assert build(Outer, {}) == Outer()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"nam": 1}, r"unknown key at the top level: 'nam'; did you mean 'name'"),
        ({"inner": {"rat": 1}}, r"unknown key in section inner: 'rat'; did you mean 'rate'"),
        ({"name": 3}, r"name is 3; give a value of type str"),
        ({"flag": 1}, r"flag is 1; give a value of type bool"),
        ({"mode": "exakt"}, r"unknown mode 'exakt'; did you mean 'exact'"),
        ({"size": [1]}, r"size is \[1\]; give 2 values"),
        ({"size": [1, 2.5]}, r"size is 2.5; give a value of type int"),
        ({"many": 3}, r"many is 3; give a list"),
        ({"limit": "x"}, r"limit is 'x'; give a value of type int"),
        ({"weights": 3}, r"weights is 3; give a table"),
        ({"weights": {"a": "b"}}, r"weights.a is 'b'"),
        ({"inner": 3}, r"inner is 3; it is a section of keys, write \[inner\]"),
        ({"inner": {"steps": True}}, r"inner.steps is True"),
    ],
)
def test_values_that_do_not_fit_are_refused_with_their_key(values, message):
    with pytest.raises(ConfigError, match=message):
        build(Outer, values)


def test_unknown_keys_are_called_what_the_caller_calls_them():
    with pytest.raises(ConfigError, match="unknown option of the loss 'nam'"):
        build(Outer, {"nam": 1}, kind="option of the loss")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"rate": 0.0}, "inner.rate is 0.0; give a value above 0"),
        ({"rate": math.nan}, "inner.rate is nan; give a value above 0"),
        ({"rate": math.inf}, "inner.rate is inf; give a value above 0"),
        ({"rate": "fast"}, "inner.rate is 'fast'; give a number"),
        ({"steps": 0}, "inner.steps is 0; give a value of at least 1"),
        ({"steps": 2.0}, "inner.steps is 2.0; give an integer"),
        ({"steps": True}, "inner.steps is True; give an integer"),
        ({"share": 1.0}, "inner.share is 1.0; give a value from 0 to below 1"),
        ({"share": -0.1}, "inner.share is -0.1; give a value from 0 to below 1"),
        ({"angle": 181}, "inner.angle is 181; give a value from -180 to 180"),
    ],
)
def test_values_out_of_range_are_refused(values, message):
    with pytest.raises(ConfigError) as caught:
        Inner(**values)
    assert str(caught.value) == message


def test_values_at_the_limits_are_accepted():
    Inner(rate=1e-12, steps=1, share=0, angle=-180.0)
    check_number("free", -1e300)
    check_number("budget_ms", math.inf, 0.0)


@pytest.mark.parametrize(
    ("bounds", "words"),
    [
        ({"low": -3.0, "high": 3.0}, "from -3 to 3"),
        ({"high": 3.0}, "of at most 3"),
        ({"below": 3.0}, "below 3"),
        ({"low": 3.0}, "of at least 3"),
        ({"above": 3.0}, "above 3"),
        ({"above": 0.0, "high": 3.0}, "above 0 to 3"),
    ],
)
def test_bounds_are_given_in_words(bounds, words):
    with pytest.raises(ConfigError) as caught:
        check_number("x", math.nan, **bounds)
    assert str(caught.value) == f"x is nan; give a value {words}"


def test_choices_are_refused_with_the_nearest_spelling():
    check_choice("schedule", "cosine", ("cosine", "constant"))
    with pytest.raises(ConfigError, match=r"unknown schedule 'cosin'; did you mean 'cosine'"):
        check_choice("schedule", "cosin", ("cosine", "constant"))


OLD_NAMES = {"colour": "color"}


def test_old_names_are_replaced_and_warn_where_a_person_typed_them():
    with pytest.warns(FutureWarning, match="key 'colour' is now 'color'"):
        assert replace_old_names({"colour": 1, "b": 2}, OLD_NAMES, "key") == {"color": 1, "b": 2}


@pytest.mark.filterwarnings("error")
def test_old_names_in_files_siamtrack_wrote_and_new_names_do_not_warn():
    assert replace_old_names({"colour": 1}, OLD_NAMES, None) == {"color": 1}
    assert replace_old_names({"color": 1}, OLD_NAMES, "key") == {"color": 1}


@pytest.mark.parametrize("order", [("colour", "color"), ("color", "colour")])
def test_a_value_under_both_names_is_refused(order):
    with pytest.raises(ConfigError, match="given twice, once as 'colour'"):
        replace_old_names(dict.fromkeys(order, 1), OLD_NAMES, "key")
