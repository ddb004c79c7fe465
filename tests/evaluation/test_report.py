"""The page, the plots, the tables and the figures behind them."""

from __future__ import annotations

import json
import re
import shutil
import subprocess

import cv2
import numpy as np
import pytest

from siamtrack.evaluation.evaluate import prepare
from siamtrack.evaluation.report import page as page_module
from siamtrack.evaluation.report import report as writing
from siamtrack.evaluation.report.failures import lasting_failures
from siamtrack.evaluation.report.report import results_latex, results_markdown, write_report
from siamtrack.evaluation.task import RunConfig, SequenceRun, Task, TaskResult
from siamtrack.evaluation.trackers import TrackerSpec

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
FLAGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--hide-scrollbars", "--window-size=1200,2600", "--enable-logging=stderr",
]  # fmt: skip
HOSTILE = 'a<img src=x onerror="document.title=1">&b'


def stored(evaluation, rng):
    """Good results of the first tracker, lost half-way by the second, in every variant."""
    for number, entry in enumerate(evaluation.trackers):
        for name, sequence in evaluation.sequences.items():
            boxes = np.nan_to_num(sequence.boxes_xywh, nan=3.0) + rng.normal(
                0, 0.4, (len(sequence), 4)
            )
            if number:
                boxes[len(boxes) // 2 :, 0] += 30
            times = rng.uniform(0.01, 0.02, len(boxes)) * (number + 1)
            for variant in evaluation.variants:
                start = variant.start_frame(sequence.truth.visible)
                rows = sequence.to_file(boxes)[start:].tolist()
                run = SequenceRun(rows, times[start:].tolist(), start)
                evaluation.store.write(variant.name, entry.key, name, run)
    return evaluation


def prepared(folder, write_clips, write_trackers, rng):
    root = write_clips(folder / "clips", {"walk": 30, "amble": 24, HOSTILE: 20})
    (root / "attributes.json").write_text(json.dumps({"walk": ["occlusion"]}))
    trackers = write_trackers(folder)
    specs = [TrackerSpec(f"{trackers}:{kind}") for kind in ("Follows", "Drift")]
    return stored(
        prepare(RunConfig("clips", root, folder / "out", tuple(specs), ("ope", "sre"))), rng
    )


@pytest.fixture
def evaluation(tmp_path, write_clips, write_trackers, rng):
    """With results, for a test to spoil."""
    return prepared(tmp_path, write_clips, write_trackers, rng)


@pytest.fixture(scope="module")
def reported(tmp_path_factory, write_clips, write_trackers):
    """An evaluation and its report, made once for all tests that only look."""
    folder = tmp_path_factory.mktemp("reported")
    made = prepared(folder, write_clips, write_trackers, np.random.default_rng(5))
    failed = TaskResult(evaluation_task(made), None, "hung <b>for ever</b>")
    return made, write_report(made, command="siamtrack eval <clips>", failures=[failed])


@pytest.fixture
def written(reported):
    return reported[1]


@pytest.fixture
def no_plots(monkeypatch):
    """Most of the time of a report, and looked at elsewhere."""
    monkeypatch.setattr(writing, "draw_all", lambda content: {})


def evaluation_task(evaluation):
    entry = evaluation.trackers[1]
    return Task("walk", "sre-left", entry.spec, entry.key, entry.label, 30)


def test_everything_is_written_and_json_is_strict(reported):
    evaluation, written = reported
    out = evaluation.config.out
    names = ["success", "precision", "normalised_precision", "attributes", "speed", "robustness"]
    for name in names:
        picture = cv2.imread(str(out / "plots" / f"{name}.png"))
        assert picture is not None and picture.std() > 5
        assert (out / "plots" / f"{name}.pdf").read_bytes().startswith(b"%PDF")
    content = json.loads(
        (out / "report.json").read_text(), parse_constant=lambda text: pytest.fail(text)
    )
    assert content == json.loads(json.dumps(written.content))
    first = content["variants"][0]
    follows, drift = first["trackers"].values()
    assert follows["figures"]["success_auc"]["value"] > drift["figures"]["success_auc"]["value"]
    assert follows["attributes"]["occlusion"]["sequences"] == 1
    assert first["paired"][0]["wins"] == 3
    assert content["failures"][0]["reason"] == "hung <b>for ever</b>"
    assert content["trackers"][0]["identity"]["source_sha256"]
    assert len(content["variants"]) == 13


def test_figures_of_the_report_are_those_of_the_result_files(reported):
    evaluation, written = reported
    tracker = written.content["variants"][0]["trackers"][evaluation.trackers[1].label]
    sequence = evaluation.sequences["walk"]
    rows = np.loadtxt(
        evaluation.store.boxes_path("ope", evaluation.trackers[1].key, "walk"), delimiter=","
    )
    truth = sequence.boxes_xywh
    inter = np.prod(
        np.clip(
            np.minimum(rows[:, :2] + rows[:, 2:], truth[:, :2] + truth[:, 2:])
            - np.maximum(rows[:, :2], truth[:, :2]),
            0,
            None,
        ),
        axis=1,
    )
    union = rows[:, 2:].prod(1) + truth[:, 2:].prod(1) - inter
    expected = (inter / union)[1:].mean()
    assert tracker["sequences"]["walk"]["average_overlap"] == pytest.approx(expected)
    curve = [np.mean((inter / union)[1:] > t) for t in np.linspace(0, 1, 21)]
    assert tracker["sequences"]["walk"]["success_auc"] == pytest.approx(np.mean(curve))


def test_the_page_fetches_nothing_and_escapes_everything(written):
    text = written.page.read_text()
    assert not re.findall(r"""(?:src|href|url)\s*[=(]\s*["']?(?!data:)(?:https?:)?//""", text)
    assert "<img src=x" not in text and "<b>for ever" not in text and "eval <clips>" not in text
    assert "hung &lt;b&gt;for ever" in text
    assert text.count("data:image/jpeg;base64,") == 3 * 5  # one strip per lost sequence
    assert text.count("data:image/svg+xml;base64,") == 6


def test_missing_results_are_counted_and_named(evaluation, no_plots):
    entry = evaluation.trackers[1]
    evaluation.store.boxes_path("ope", entry.key, "walk").unlink()
    report = write_report(evaluation, command="")
    tracker = report.content["variants"][0]["trackers"][entry.label]
    assert tracker["scored"] == 2 and "is missing" in tracker["missing"]["walk"]
    assert report.content["variants"][0]["paired"][0]["sequences"] == 2
    assert "2 of 3" in report.page.read_text()


def test_a_tracker_without_any_result_does_not_keep_the_others_from_being_reported(evaluation):
    for path in evaluation.store.tracker_folder("ope", evaluation.trackers[0].key).glob("*.txt"):
        path.unlink()
    report = write_report(evaluation, command="")
    first = report.content["variants"][0]
    assert first["trackers"][evaluation.trackers[0].label]["scored"] == 0
    assert "| 0/3 |" in results_markdown(first) and "3/3" in results_markdown(first)


def test_frames_that_have_gone_cost_the_strips_only(evaluation, no_plots):
    shutil.rmtree(evaluation.benchmark.root / "walk")
    report = write_report(evaluation, command="")
    assert report.page.read_text().count("data:image/jpeg;base64,") == 2 * 5


def test_every_way_of_running_has_a_row(written):
    table = re.search(
        r'<table class="figures" id="variants">.*?</table>', written.page.read_text(), re.S
    )[0]
    names = re.findall(r"<tr><td>(.*?)</td>", table)
    assert names[:2] == ["ope", "sre-left"] and len(names) == 13
    value = written.content["variants"][5]["trackers"].values()
    for tracker in value:
        assert f">{tracker['figures']['success_auc']['value']:.3f}<" in table


def test_tables_for_papers(written):
    variant = written.content["variants"][0]
    markdown = results_markdown(variant).splitlines()
    assert markdown[0] == "| tracker | AUC | AO | P 20 px | norm. P | fps | sequences |"
    assert "Follows | **" in markdown[2] and "Drift |" in markdown[3]
    assert re.search(r"\*\*0\.\d{3} \[0\.\d{3}, 0\.\d{3}\]\*\*", markdown[2])
    latex = results_latex(variant)
    assert latex.startswith(r"\begin{tabular}{lrrrrrr}") and r"\textbf{0." in latex
    hostile = {**variant, "trackers": {"a_b&c|d%": next(iter(variant["trackers"].values()))}}
    assert r"a\_b\&c|d\%" in results_latex(hostile)
    assert r"a_b&c\|d%" in results_markdown(hostile)


def test_long_sequences_are_averaged_in_blocks(monkeypatch, evaluation, no_plots):
    monkeypatch.setattr(page_module, "MAX_POINTS", 10)
    report = write_report(evaluation, command="")
    text = report.page.read_text()
    lines = json.loads(re.search(r'id="timelines">(.*?)</script>', text)[1])
    assert lines["walk"]["block"] == 3 and len(lines["walk"]["trackers"][0]["overlap"]) == 10
    score = report.scores["ope"][0].sequences["walk"]
    assert lines["walk"]["trackers"][0]["overlap"][2] == pytest.approx(
        score.overlaps[6:9].mean(), abs=5e-4
    )
    # The given box does not count, so the first block has two frames only.
    assert lines["walk"]["trackers"][0]["overlap"][0] == pytest.approx(
        score.overlaps[1:3].mean(), abs=5e-4
    )


@pytest.mark.parametrize(
    ("overlaps", "frame"),
    [
        ([np.nan, 0.9, 0.05, 0.8, *[0.0] * 5], 4),
        ([0.9, 0.0, np.nan, 0.0, 0.0, np.nan, 0.0, 0.0], 1),
        ([0.9, 0.0, 0.0, 0.0, 0.0], None),
        ([0.9] * 9, None),
        ([], None),
    ],
)
def test_a_failure_lasts(overlaps, frame):
    starts = [start for start, _ in lasting_failures(np.array(overlaps))]
    assert starts == ([] if frame is None else [frame])


def test_vot_is_reported_too(vot, tmp_path):
    evaluation = prepare(RunConfig("vot2018", vot(), tmp_path / "out", (TrackerSpec("identity"),)))
    key = evaluation.trackers[0].key
    for name, sequence in evaluation.sequences.items():
        rows = [[1.0], *sequence.truth.boxes_xywh[1:].tolist()]
        rows[17] = [2.0]
        evaluation.store.write("supervised", key, name, SequenceRun(rows, [0.02] * len(rows)))
    report = write_report(evaluation, command="")
    figures = report.content["variants"][0]["trackers"]["identity"]["figures"]
    assert 0.7 < figures["accuracy"]["value"] < 1 and figures["robustness"]["value"] > 0
    assert "failures" in report.page.read_text()
    assert (tmp_path / "out" / "plots" / "speed.png").is_file()


def test_one_pass_on_vot_is_scored_like_clips(vot, tmp_path, no_plots):
    families = ["supervised", "ope"]
    specs = [TrackerSpec("identity")]
    evaluation = prepare(
        RunConfig("vot2018", vot(), tmp_path / "out", tuple(specs), tuple(families))
    )
    key = evaluation.trackers[0].key
    for name, sequence in evaluation.sequences.items():
        rows = sequence.truth.boxes_xywh.tolist()
        evaluation.store.write("ope", key, name, SequenceRun(rows, [0.02] * len(rows)))
    report = write_report(evaluation, command="")
    supervised, ope = report.content["variants"]
    assert supervised["trackers"]["identity"]["scored"] == 0
    assert ope["trackers"]["identity"]["figures"]["success_auc"]["value"] == pytest.approx(20 / 21)
    assert ope["protocol"]["given_box_counts"] is False


def chromium(address, tmp_path, *flags):
    return subprocess.run(
        [CHROMIUM, *FLAGS, f"--user-data-dir={tmp_path / 'profile'}", *flags, address],
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
    )


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")
def test_the_page_works_in_a_browser(written, tmp_path):
    address = written.page.as_uri()
    opened = chromium(f"{address}#sort=2:asc&sequence=walk", tmp_path, "--dump-dom")
    assert "CONSOLE" not in opened.stderr  # no script error, nothing refused
    table = re.search(r'<table[^>]*id="sequences".*?</table>', opened.stdout, re.S)[0]
    order = [row for row in re.findall(r'<tr data-sequence="(.*?)"', table)]
    figures = written.content["variants"][0]["trackers"]
    first = next(iter(figures.values()))["sequences"]
    shown = [
        name.replace("&lt;", "<").replace("&gt;", ">").replace("&quot;", '"') for name in order
    ]
    shown = [name.replace("&amp;", "&") for name in shown]
    assert shown == sorted(first, key=lambda name: first[name]["success_auc"])
    assert len(order) == 3 and 'aria-sort="ascending"' in table
    timeline = re.search(r'<div id="timeline">.*?</div>', opened.stdout, re.S)[0]
    assert timeline.count("<path") == 2 and "walk: overlap by frame" in timeline
    default = chromium(address, tmp_path, "--dump-dom")
    assert '<div id="timeline" hidden' in default.stdout


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")
def test_the_page_can_be_looked_at(written, tmp_path):
    shot = tmp_path / "page.png"
    chromium(f"{written.page.as_uri()}#sequence=walk", tmp_path, f"--screenshot={shot}")
    picture = cv2.imread(str(shot))
    assert picture.shape == (2600, 1200, 3)
    # Text and plots all the way down, in the colors of both trackers.
    for part in np.array_split(picture, 6):
        assert part.std() > 8
    for color in ((0x28, 0x27, 0xD6), (0xB4, 0x77, 0x1F)):
        assert (np.abs(picture.astype(int) - color).max(axis=2) < 12).sum() > 500
