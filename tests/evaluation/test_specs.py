"""Trackers by name, and keys that change with everything their boxes depend on."""

from __future__ import annotations

import shutil
import sys
from types import SimpleNamespace

import cv2
import pytest

from siamtrack.errors import ConfigError, EvaluationError, WeightsError
from siamtrack.evaluation import trackers as trackers_module
from siamtrack.evaluation.trackers import (
    IdentityTracker,
    OpenCvTracker,
    ToolkitTrackerAdapter,
    TrackerSpec,
    parse_trackers,
    resolve_trackers,
    result_identity,
    result_key,
)
from siamtrack.models.weights import build_network, save_network
from siamtrack.tracking.options import BoxHeadOptions


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
    assert isinstance(toolkit, ToolkitTrackerAdapter)


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
    before = result_key(plain)
    assert before.startswith("temperaments.py-Drift-")
    assert result_key(TrackerSpec(plain.name, {"step": 2.0})) != before
    trackers_file.write_text(trackers_file.read_text() + "\n# faster\n")
    assert result_key(plain) != before


def test_the_key_follows_the_weights_not_their_name(tmp_path):
    paths = [tmp_path / f"{name}.safetensors" for name in ("one", "two", "three")]
    for path in (paths[0], paths[2]):
        save_network(build_network("siamfc"), path, training_data=["none"], license="CC0-1.0")
    for suffix in (".safetensors", ".json"):
        shutil.copy(paths[0].with_suffix(suffix), paths[1].with_suffix(suffix))
    keys = [result_key(TrackerSpec(str(path))) for path in paths]
    one, two, three = (key.rpartition("-") for key in keys)
    assert (one[0], two[0]) == ("one", "two")
    assert one[2] == two[2] != three[2]


def built(options=None, **engine):
    """What `TrackerSpec("siamtrack").build()` might give."""
    values = {"name": "onnx", "precision": "f32", "device": "cpu", **engine}
    return SimpleNamespace(options=options or BoxHeadOptions(), engine=SimpleNamespace(**values))


def key_of(tracker, **options):
    spec = TrackerSpec("siamtrack", options)
    return result_key(spec, result_identity(spec, tracker))


@pytest.mark.parametrize(
    "other",
    [
        built(name="torch"),
        built(precision="int8"),
        built(device="cuda:0"),
        built(BoxHeadOptions(window_influence=0.1)),
    ],
)
def test_the_key_follows_what_runs(other):
    assert key_of(other) != key_of(built())


def test_the_key_names_what_runs_not_how_it_was_asked_for():
    automatic, named = key_of(built()), key_of(built(), engine="onnx", device="cpu")
    assert automatic == named and automatic.startswith("siamtrack-")
    assert key_of(built(device="cuda:0")) == key_of(built(device="cuda:1"))


def test_the_key_follows_the_revision_of_the_tracking_and_no_source(monkeypatch):
    renamed = type("Options2", (BoxHeadOptions,), {"__doc__": "Another text.", "__module__": "x"})
    before = key_of(built())
    assert key_of(built(renamed())) == before
    assert set(result_identity(TrackerSpec("siamtrack"), built())) == {
        "weights_sha256", "options", "engine", "precision", "device", "tracking_revision"
    }  # fmt: skip
    monkeypatch.setattr(trackers_module, "TRACKING_REVISION", 10**6)
    assert key_of(built()) != before


def test_the_key_follows_opencv_and_its_model_files(tmp_path, monkeypatch):
    for name in ("b.onnx", "moved.onnx"):
        (tmp_path / name).write_bytes(b"one")
    first, moved = (
        result_key(TrackerSpec("opencv:vit", {"net": str(tmp_path / name)}))
        for name in ("b.onnx", "moved.onnx")
    )
    assert first == moved
    (tmp_path / "moved.onnx").write_bytes(b"two")
    assert result_key(TrackerSpec("opencv:vit", {"net": str(tmp_path / "moved.onnx")})) != first
    monkeypatch.setattr(cv2, "__version__", "9.9.9")
    assert result_key(TrackerSpec("opencv:vit", {"net": str(tmp_path / "b.onnx")})) != first


@pytest.mark.parametrize(
    ("spec", "error", "message"),
    [
        (TrackerSpec("opencv:vit", {"net": "gone.onnx"}), EvaluationError, "gone.onnx"),
        (TrackerSpec("gone.py:Drift"), ConfigError, "gone.py is not a Python file"),
        (TrackerSpec("no.such.module:Drift"), EvaluationError, "cannot be imported"),
    ],
)
def test_what_a_key_is_made_of_must_be_there(spec, error, message):
    with pytest.raises(error, match=message):
        result_key(spec)


def test_trackers_have_labels_that_tell_them_apart(trackers_file):
    names = [f"{trackers_file}:Drift", f"{trackers_file}:Drift@step=3", "identity"]
    entries = resolve_trackers([TrackerSpec.parse(name) for name in names])
    labels = ["temperaments.py:Drift", "temperaments.py:Drift@step=3", "identity"]
    assert [entry.label for entry in entries] == labels
    (trackers_file.parent / "deep").mkdir()
    copy = trackers_file.parent / "deep" / trackers_file.name
    copy.write_text(trackers_file.read_text() + "# another\n")
    twins = [f"{path}:Drift" for path in (trackers_file, copy)]
    assert [e.label for e in resolve_trackers([TrackerSpec(name) for name in twins])] == twins
    with pytest.raises(ConfigError, match="the same tracker; give it once"):
        resolve_trackers([TrackerSpec("identity"), TrackerSpec("identity")])
    with pytest.raises(ConfigError, match="give at least one with --tracker"):
        resolve_trackers([])
