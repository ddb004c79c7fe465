"""The Markdown table and the strict JSON that all reports share."""

from __future__ import annotations

import json

import numpy as np

from siamtrack.evaluation.report.tables import interval_text, markdown_table, without_nan


def test_the_first_column_is_left_aligned_and_the_others_right_unless_told():
    table = markdown_table(["tracker", "fps"], [["a|b", "9.0"], ["c", "8.5"]])
    assert table.splitlines() == [
        "| tracker | fps |",
        "| --- | ---: |",
        "| a\\|b | 9.0 |",
        "| c | 8.5 |",
    ]
    assert markdown_table("ab", [], "rl").splitlines()[1] == "| ---: | --- |"


def test_an_interval_is_written_as_far_as_it_is_known():
    known = {"value": 0.25, "low": 0.1, "high": 0.4}
    assert interval_text(known) == "0.250 [0.100, 0.400]"
    assert interval_text(known, "+.1f") == "+0.2 [+0.1, +0.4]"
    assert interval_text({**known, "low": None, "high": None}) == "0.250"
    assert interval_text({**known, "value": None}) == "-"


def test_arrays_become_lists_and_what_json_does_not_have_none():
    data = {
        "curve": np.array([0.5, np.nan]),
        "rows": [(1, float("inf"))],
        "name": "x",
        "none": None,
    }
    plain = without_nan(data)
    assert plain == {"curve": [0.5, None], "rows": [[1, None]], "name": "x", "none": None}
    json.dumps(plain, allow_nan=False)
