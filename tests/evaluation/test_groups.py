"""Which sequences belong together, from the file beside them to the report."""

from __future__ import annotations

import json

import numpy as np
import pytest

from siamtrack.cli import main
from siamtrack.errors import DatasetError
from siamtrack.evaluation.evaluate import prepare, run
from siamtrack.evaluation.groups import SequenceGroup, read_groups
from siamtrack.evaluation.report import report as writing
from siamtrack.evaluation.report.report import write_report
from siamtrack.evaluation.task import RunConfig
from siamtrack.evaluation.trackers import TrackerSpec

NAMES = ["a", "b"]


def test_without_the_file_every_sequence_is_its_own_group(tmp_path):
    assert read_groups(tmp_path, NAMES) == {"a": SequenceGroup("a"), "b": SequenceGroup("b")}


def test_groups_and_what_was_tuned_on(tmp_path):
    entries = {
        "a": {"group": "dog", "tuned_before": True, "target": "a dog"},
        "b": {"group": "dog"},
        "elsewhere": 3,
    }
    (tmp_path / "groups.json").write_text(json.dumps(entries))
    assert read_groups(tmp_path, NAMES) == {
        "a": SequenceGroup("dog", tuned_before=True), "b": SequenceGroup("dog"),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "groups.json cannot be read"),
        ("[1]", "holds no entries by sequence"),
        ('{"c": {"group": "x"}}', "no entry for a and 1 more"),
        ('{"a": {"group": "x"}}', "no entry for b; give every sequence its group"),
        ('{"a": {"group": "x"}, "b": "x"}', "has 'x' for b; it must look like"),
        ('{"a": {"group": "x"}, "b": {"group": 3}}', "for b"),
        ('{"a": {"group": "x"}, "b": {"group": ""}}', "for b"),
        ('{"a": {"group": "x"}, "b": {"group": "y", "tuned_before": 1}}', "for b"),
    ],
)
def test_damaged_and_incomplete_files_are_refused(tmp_path, text, message):
    (tmp_path / "groups.json").write_text(text)
    with pytest.raises(DatasetError, match=message):
        read_groups(tmp_path, NAMES)


def test_a_damaged_file_is_refused_before_the_first_frame(clips, tmp_path, capsys):
    root = clips({"walk": 3})
    (root / "groups.json").write_text("{}")
    command = ["eval", "clips", "--root", str(root), "--out", str(tmp_path / "out")]
    assert main([*command, "--tracker", "identity"]) == 3
    assert "has no entry for walk" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


LENGTHS = {"a": 12, "b": 10, "c": 8, "d": 9, "e": 11}
ENTRIES = {
    "a": {"group": "one", "tuned_before": True},
    "b": {"group": "one", "tuned_before": True},
    "c": {"group": "two"},
    "d": {"group": "two"},
    "e": {"group": "three"},
}


@pytest.fixture
def reported(clips, trackers_file, tmp_path, monkeypatch):
    """Two trackers in two views of five sequences, some of which chose options before."""
    root = clips(LENGTHS)
    (root / "groups.json").write_text(json.dumps(ENTRIES))
    specs = (TrackerSpec(f"{trackers_file}:Follows"), TrackerSpec("identity"))
    config = RunConfig("clips", root, tmp_path / "out", specs, views=("start", "reverse"))
    evaluation = prepare(config)
    assert run(evaluation) == []
    monkeypatch.setattr(writing, "draw_all", lambda content: {})
    return write_report(evaluation, command="")


def test_sequences_that_chose_options_are_reported_apart(reported):
    parts = {summary["part"]: summary for summary in reported.content["summaries"]}
    assert list(parts) == ["all", "chosen on", "the others"]
    counts = [(part["sequences"], part["groups"]) for part in parts.values()]
    assert counts == [(5, 3), (2, 1), (3, 2)]
    views = reported.content["variants"]
    assert [view["name"] for view in views] == ["ope", "ope+reverse"]
    for part, names in (("all", "abcde"), ("chosen on", "ab"), ("the others", "cde")):
        for label, tracker in parts[part]["trackers"].items():
            by_view = [view["trackers"][label]["sequences"] for view in views]
            expected = np.mean([[view[name]["success_auc"] for name in names] for view in by_view])
            figure = tracker["figures"]["success_auc"]
            assert figure["value"] == pytest.approx(expected)
            assert (figure["low"] is None) == (part == "chosen on")  # one group has no interval
    page = reported.page.read_text()
    assert "ope, means of 2 runs: the others, 3 sequences in 2 groups" in page
    assert "whose\n  figures flatter what they chose" in page


def test_paired_differences_are_means_over_views_resampled_by_group(reported):
    views = reported.content["variants"]
    first, second = views[0]["trackers"]
    delta = {
        name: np.mean([
            view["trackers"][first]["sequences"][name]["success_auc"]
            - view["trackers"][second]["sequences"][name]["success_auc"]
            for view in views
        ])
        for name in LENGTHS
    }  # fmt: skip
    (test,) = reported.content["summaries"][0]["paired"]
    assert (test["first"], test["second"]) == (first, second)
    assert test["difference"]["value"] == pytest.approx(np.mean(list(delta.values())))
    assert (test["wins"], test["sequences"], test["groups"]) == (5, 5, 3)
    assert test["p_value"] == pytest.approx(2 / 2**3)  # all three groups one way, of 8 patterns
    # The interval lies between the groups' own means, as a draw may hold one group alone.
    means = [np.mean([delta[name] for name in group]) for group in ("ab", "cd", "e")]
    assert test["difference"]["low"] == pytest.approx(min(means))
    assert test["difference"]["high"] == pytest.approx(max(means))
    table = writing.paired_markdown(reported.content)
    assert "| ope, chosen on | AUC |" in table and table.count("minus identity") == 3
