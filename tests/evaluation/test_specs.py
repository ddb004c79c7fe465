"""Trackers by name, and keys that change with everything their boxes depend on."""

from __future__ import annotations

import shutil
import sys

import cv2
import pytest

from siamtrack.errors import ConfigError, EvaluationError, WeightsError
from siamtrack.evaluation import trackers as identity_module
from siamtrack.evaluation.task import enter
from siamtrack.evaluation.trackers import (
    IdentityTracker,
    OpenCvTracker,
    ToolkitTrackerHere,
    TrackerSpec,
    identity,
    parse_trackers,
    tracker_key,
)
from siamtrack.models.weights import build_network, save_network


@pytest.mark.parametrize(
    ("text", "name", "options"),
    [
        ("siamtrack", "siamtrack", {}),
        (
            "siamtrack@engine=torch,window_influence=0.3,quick=true,size=3",
            "siamtrack",
            {"engine": "torch", "window_influence": 0.3, "quick": True, "size": 3},
        ),
        ("a/b.py:C@step=1.5", "a/b.py:C", {"step": 1.5}),
        ("opencv:nano@backbone=a b.onnx", "opencv:nano", {"backbone": "a b.onnx"}),
    ],
)
def test_trackers_are_read_and_written_back(text, name, options):
    spec = TrackerSpec.parse(text)
    assert (spec.name, spec.options) == (name, options)
    assert TrackerSpec.parse(str(spec)) == spec


@pytest.mark.parametrize("text", ["", "@a=1", "siamtrack@fast", "siamtrack@=1"])
def test_what_is_no_tracker_is_refused(text):
    with pytest.raises(ConfigError, match="NAME@key=value"):
        TrackerSpec.parse(text)


def test_model_files_of_the_command_line_go_to_their_trackers():
    files = {"nano": {"backbone": "b.onnx", "head": None}, "vit": {"net": "n.onnx"}}
    nano, vit, mil, own = parse_trackers(
        ["opencv:nano@backbone=mine.onnx,head=h.onnx", "opencv:vit", "opencv:mil", "nano"], files
    )
    assert nano.options == {"backbone": "mine.onnx", "head": "h.onnx"}
    assert vit.options == {"net": "n.onnx"} and vit.label == "opencv:vit"
    assert mil.options == {} and own.options == {}


def test_classes_come_from_files_and_modules(trackers_file, monkeypatch):
    tracker = TrackerSpec.parse(f"{trackers_file}:Drift@step=2.5").build()
    assert tracker.step == 2.5
    monkeypatch.syspath_prepend(str(trackers_file.parent))
    assert type(TrackerSpec("temperaments:Drift").build()).__name__ == "Drift"
    sys.modules.pop("temperaments")
    assert isinstance(TrackerSpec("identity").build(), IdentityTracker)
    assert isinstance(TrackerSpec("opencv:mil").build(), OpenCvTracker)
    toolkit = TrackerSpec("got10k.trackers.identity_tracker:IdentityTracker").build()
    assert isinstance(toolkit, ToolkitTrackerHere)


@pytest.mark.parametrize(
    ("name", "error", "message"),
    [
        ("{file}:Absent", ConfigError, "has no class 'Absent'"),
        ("{file}:Unbuildable", EvaluationError, "RuntimeError: no camera attached"),
        ("{file}:NoUpdate", ConfigError, "has no method update"),
        ("{file}:Drift@pace=3", EvaluationError, "pace"),
        ("{file}:NoUpdate@a=1", EvaluationError, "TypeError"),
        ("nowhere/at_all.py:Drift", ConfigError, "is not a Python file"),
        ("no_such_module:Drift", EvaluationError, "No module named 'no_such_module'"),
        ("identity@speed=3", ConfigError, "takes no options"),
        ("opencv:csssrt", ConfigError, "csrt"),
        ("no-such-weights", WeightsError, "no weights 'no-such-weights'"),
    ],
)
def test_trackers_that_cannot_be_had_are_refused(name, error, message, trackers_file):
    with pytest.raises(error, match=message):
        TrackerSpec.parse(name.format(file=trackers_file)).build()


def test_a_module_that_fails_to_import_is_said(tmp_path):
    (tmp_path / "broken.py").write_text("1 / 0\n")
    with pytest.raises(EvaluationError, match="ZeroDivisionError"):
        TrackerSpec(f"{tmp_path / 'broken.py'}:Any").build()


def test_the_key_follows_the_source_of_a_class_and_its_options(trackers_file):
    plain = TrackerSpec(f"{trackers_file}:Drift")
    before = tracker_key(plain)
    assert before.startswith("temperaments.py-Drift-")
    assert tracker_key(TrackerSpec(plain.name, {"step": 2.0})) != before
    trackers_file.write_text(trackers_file.read_text() + "\n# faster\n")
    assert tracker_key(plain) != before


def test_the_key_follows_the_weights_not_their_name(tmp_path):
    paths = [tmp_path / f"{name}.safetensors" for name in ("one", "two", "three")]
    for path in (paths[0], paths[2]):
        save_network(build_network("siamfc"), path, training_data=["none"], licence="CC0-1.0")
    for suffix in (".safetensors", ".json"):
        shutil.copy(paths[0].with_suffix(suffix), paths[1].with_suffix(suffix))
    one, two, three = (identity(TrackerSpec(str(path))) for path in paths)
    assert one == two and one != three
    assert tracker_key(TrackerSpec(str(paths[0]))).startswith("one-")
    assert one != identity(TrackerSpec(str(paths[0]), {"window_influence": 0.1}))


def test_the_key_follows_the_code_that_tracks_but_not_the_rest(monkeypatch, tmp_path):
    package = tmp_path / "siamtrack"
    for part in ("tracking", "evaluation"):
        (package / part).mkdir(parents=True)
        (package / part / "loop.py").write_text("x = 1\n")
    monkeypatch.setattr(identity_module, "__file__", str(package / "evaluation" / "identity.py"))
    before = identity_module.code_sha256()
    (package / "evaluation" / "loop.py").write_text("x = 2\n")
    assert identity_module.code_sha256() == before
    (package / "tracking" / "loop.py").write_text("x = 2\n")
    assert identity_module.code_sha256() != before


def test_the_key_follows_opencv_and_its_model_files(tmp_path, monkeypatch):
    for name in ("b.onnx", "moved.onnx"):
        (tmp_path / name).write_bytes(b"one")
    first, moved = (
        tracker_key(TrackerSpec("opencv:vit", {"net": str(tmp_path / name)}))
        for name in ("b.onnx", "moved.onnx")
    )
    assert first == moved
    (tmp_path / "moved.onnx").write_bytes(b"two")
    assert tracker_key(TrackerSpec("opencv:vit", {"net": str(tmp_path / "moved.onnx")})) != first
    monkeypatch.setattr(cv2, "__version__", "9.9.9")
    assert tracker_key(TrackerSpec("opencv:vit", {"net": str(tmp_path / "b.onnx")})) != first


@pytest.mark.parametrize(
    ("spec", "error", "message"),
    [
        (TrackerSpec("opencv:vit", {"net": "gone.onnx"}), EvaluationError, "gone.onnx"),
        (TrackerSpec("gone.py:Drift"), ConfigError, "gone.py does not exist"),
        (TrackerSpec("no.such.module:Drift"), ConfigError, "cannot be found"),
    ],
)
def test_what_a_key_is_made_of_must_be_there(spec, error, message):
    with pytest.raises(error, match=message):
        tracker_key(spec)


def test_entrants_have_labels_that_tell_them_apart(trackers_file):
    names = [f"{trackers_file}:Drift", f"{trackers_file}:Drift@step=3", "identity"]
    entrants = enter([TrackerSpec.parse(name) for name in names])
    labels = ["temperaments.py:Drift", "temperaments.py:Drift@step=3", "identity"]
    assert [entrant.label for entrant in entrants] == labels
    (trackers_file.parent / "deep").mkdir()
    copy = trackers_file.parent / "deep" / trackers_file.name
    copy.write_text(trackers_file.read_text() + "# another\n")
    twins = [f"{path}:Drift" for path in (trackers_file, copy)]
    assert [e.label for e in enter([TrackerSpec(name) for name in twins])] == twins
    with pytest.raises(ConfigError, match="the same tracker; give it once"):
        enter([TrackerSpec("identity"), TrackerSpec("identity")])
    with pytest.raises(ConfigError, match="give at least one with --tracker"):
        enter([])
