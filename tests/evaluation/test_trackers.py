"""Trackers by name, their kinds, and keys that follow everything their boxes depend on."""

from __future__ import annotations

import shutil
import sys
from dataclasses import make_dataclass
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from siamtrack.errors import ConfigError, EvaluationError, WeightsError
from siamtrack.evaluation import trackers as trackers_module
from siamtrack.evaluation.trackers import (
    CLASSIC,
    IdentityTracker,
    OpenCvTracker,
    ToolkitTrackerAdapter,
    TrackerSpec,
    box_of,
    opencv_tracker,
    parse_trackers,
    resolve_trackers,
    result_identity,
    result_key,
)
from siamtrack.models.weights import build_network, save_network
from siamtrack.tracking.old_names import OLD_NAMES
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
def test_specs_parse_and_format_back(text, name, options):
    spec = TrackerSpec.parse(text)
    assert (spec.name, spec.options) == (name, options)
    assert TrackerSpec.parse(str(spec)) == spec


@pytest.mark.parametrize("text", ["", "@a=1", "siamtrack@fast", "siamtrack@=1"])
def test_malformed_specs_are_rejected(text):
    with pytest.raises(ConfigError, match="NAME@key=value"):
        TrackerSpec.parse(text)


def test_shared_model_files_go_to_the_matching_opencv_trackers():
    files = {"nano": {"backbone": "b.onnx", "head": None}, "vit": {"net": "n.onnx"}}
    nano, vit, mil, own = parse_trackers(
        ["opencv:nano@backbone=mine.onnx,head=h.onnx", "opencv:vit", "opencv:mil", "nano"], files
    )
    assert nano.options == {"backbone": "mine.onnx", "head": "h.onnx"}
    assert vit.options == {"net": "n.onnx"} and vit.label == "opencv:vit"
    assert mil.options == {} and own.options == {}


def test_classes_load_from_files_and_modules(trackers_file, monkeypatch):
    tracker = TrackerSpec.parse(f"{trackers_file}:Drift@step=2.5").build()
    assert tracker.step == 2.5
    monkeypatch.syspath_prepend(str(trackers_file.parent))
    assert type(TrackerSpec("own_trackers:Drift").build()).__name__ == "Drift"
    sys.modules.pop("own_trackers")
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
def test_trackers_that_cannot_be_built_are_rejected(name, error, message, trackers_file):
    with pytest.raises(error, match=message):
        TrackerSpec.parse(name.format(file=trackers_file)).build()


def test_an_import_error_is_reported(tmp_path):
    (tmp_path / "broken.py").write_text("1 / 0\n")
    with pytest.raises(EvaluationError, match="ZeroDivisionError"):
        TrackerSpec(f"{tmp_path / 'broken.py'}:Any").build()


def test_key_depends_on_source_and_options_of_a_class(trackers_file):
    plain = TrackerSpec(f"{trackers_file}:Drift")
    before = result_key(plain)
    assert before.startswith("own-trackers.py-Drift-")
    assert result_key(TrackerSpec(plain.name, {"step": 2.0})) != before
    trackers_file.write_text(trackers_file.read_text() + "\n# faster\n")
    assert result_key(plain) != before


def test_key_depends_on_the_weights_not_on_their_name(tmp_path):
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
def test_key_depends_on_engine_precision_device_and_options(other):
    assert key_of(other) != key_of(built())


def test_key_is_the_same_for_auto_and_the_engine_it_chooses():
    automatic, named = key_of(built()), key_of(built(), engine="onnx", device="cpu")
    assert automatic == named and automatic.startswith("siamtrack-")
    assert key_of(built(device="cuda:0")) == key_of(built(device="cuda:1"))


def test_key_depends_on_the_tracking_revision_not_on_source_code(monkeypatch):
    renamed = type("Options2", (BoxHeadOptions,), {"__doc__": "Another text.", "__module__": "x"})
    before = key_of(built())
    assert key_of(built(renamed())) == before
    assert set(result_identity(TrackerSpec("siamtrack"), built())) == {
        "weights_sha256", "options", "engine", "precision", "device", "tracking_revision"
    }  # fmt: skip
    monkeypatch.setattr(trackers_module, "TRACKING_REVISION", 10**6)
    assert key_of(built()) != before


def test_renaming_an_option_keeps_the_key(monkeypatch):
    renamed = make_dataclass("Renamed", [("window_weight", float, 0.4)])
    before = key_of(built(BoxHeadOptions(window_influence=0.1)))
    assert key_of(built(renamed(0.1))) != before
    monkeypatch.setitem(OLD_NAMES, "window_influence", "window_weight")
    assert key_of(built(renamed(0.1))) == before


def test_key_depends_on_the_opencv_version_and_model_files(tmp_path, monkeypatch):
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
def test_missing_files_of_a_key_are_rejected(spec, error, message):
    with pytest.raises(error, match=message):
        result_key(spec)


def test_labels_are_unique(trackers_file):
    names = [f"{trackers_file}:Drift", f"{trackers_file}:Drift@step=3", "identity"]
    entries = resolve_trackers([TrackerSpec.parse(name) for name in names])
    labels = ["own_trackers.py:Drift", "own_trackers.py:Drift@step=3", "identity"]
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


class FakeOpenCv:
    """Notes what OpenCV would be given; finds the target every second time."""

    def __init__(self):
        self.given, self.calls = None, 0

    def init(self, image, box):
        self.given = box

    def update(self, image):
        self.calls += 1
        return self.calls % 2 == 1, (self.calls, 2, 3, 4)


FRAME = np.zeros((20, 20, 3), np.uint8)


def test_opencv_gets_a_rounded_box_and_keeps_its_last_box_after_a_failure():
    made = []
    tracker = OpenCvTracker(lambda: made.append(FakeOpenCv()) or made[-1])
    tracker.init(FRAME, (1.6, 2.4, 0.2, 7.5))
    assert made[0].given == (2, 2, 1, 8)
    assert tracker.update(FRAME) == (1.0, 2.0, 3.0, 4.0)
    assert tracker.update(FRAME) == (1.0, 2.0, 3.0, 4.0)
    assert tracker.update(FRAME) == (3.0, 2.0, 3.0, 4.0)


def test_every_init_builds_a_new_opencv_tracker():
    made = []
    tracker = OpenCvTracker(lambda: made.append(FakeOpenCv()) or made[-1])
    tracker.init(FRAME, (1, 1, 5, 5))
    tracker.init(FRAME, (1, 1, 5, 5))
    assert len(made) == 2
    tracker.prepare()  # makes the one of the next start ahead
    assert len(made) == 3
    tracker.init(FRAME, (1, 1, 5, 5))
    assert len(made) == 3 and made[2].given == (1, 1, 5, 5)


def test_installed_opencv_tracks(rng):
    scene = cv2.resize(rng.integers(0, 255, (12, 16, 3)).astype(np.uint8), (160, 120))
    tracker = opencv_tracker("mil", {})
    tracker.init(scene, (60.0, 40.0, 30.0, 30.0))
    box = np.array(tracker.update(scene))
    assert np.abs(box - [60, 40, 30, 30]).max() <= 4


@pytest.mark.parametrize("name", CLASSIC)
def test_a_missing_opencv_tracker_names_the_contrib_package(name, monkeypatch):
    monkeypatch.delattr(cv2, CLASSIC[name], raising=False)
    monkeypatch.delattr(cv2, "legacy", raising=False)
    with pytest.raises(EvaluationError, match="opencv-contrib-python"):
        opencv_tracker(name, {})


@pytest.mark.parametrize("name", CLASSIC)
def test_trackers_in_cv2_legacy_are_found(name, monkeypatch):
    monkeypatch.delattr(cv2, CLASSIC[name], raising=False)
    legacy = SimpleNamespace(**{CLASSIC[name]: FakeOpenCv})
    monkeypatch.setattr(cv2, "legacy", legacy, raising=False)
    tracker = opencv_tracker(name, {})
    tracker.init(FRAME, (1, 1, 5, 5))
    assert tracker.update(FRAME) == (1.0, 2.0, 3.0, 4.0)


def test_missing_model_files_are_named_by_their_flags(tmp_path):
    with pytest.raises(ConfigError, match=r"--backbone FILE.onnx --head FILE.onnx"):
        opencv_tracker("nano", {})
    there = tmp_path / "backbone.onnx"
    there.write_bytes(b"not a network")
    with pytest.raises(EvaluationError, match=r"head.onnx of opencv:nano does not exist"):
        opencv_tracker("nano", {"backbone": str(there), "head": str(tmp_path / "head.onnx")})


@pytest.mark.parametrize(("name", "options"), [("nano", ("backbone", "head")), ("vit", ("net",))])
def test_invalid_model_files_are_rejected(name, options, tmp_path):
    path = tmp_path / "network.onnx"
    path.write_bytes(b"not a network")
    tracker = opencv_tracker(name, dict.fromkeys(options, str(path)))
    with pytest.raises(EvaluationError, match=f"cannot make opencv:{name} from"):
        tracker.init(FRAME, (1, 1, 5, 5))


def test_unknown_names_and_options_are_rejected():
    with pytest.raises(ConfigError, match=r"no OpenCV tracker named 'cssrt'.*csrt"):
        opencv_tracker("cssrt", {})
    with pytest.raises(ConfigError, match="has no option speed; it takes none"):
        opencv_tracker("mil", {"speed": 3})


@pytest.mark.parametrize(
    "output",
    [
        (1, 2, 3, 4),
        [1.0, 2, 3, 4],
        np.array([1, 2, 3, 4]),
        SimpleNamespace(box=(1, 2, 3, 4), score=0.3),
        (True, (1, 2, 3, 4)),
    ],
)
def test_box_of_accepts_boxes_results_and_opencv_tuples(output):
    np.testing.assert_array_equal(box_of(output), [1, 2, 3, 4])


@pytest.mark.parametrize("output", [None, 3, "box", (1, 2, 3), (True, None), {"box": 1}])
def test_box_of_rejects_outputs_without_a_box(output):
    with pytest.raises(EvaluationError, match="must return x, y, w, h"):
        box_of(output)


def test_identity_tracker_returns_the_initial_box():
    tracker = IdentityTracker()
    tracker.init(FRAME, (1.5, 2, 3, 4))
    assert tracker.update(FRAME) == (1.5, 2, 3, 4)


def test_full_paths_are_those_of_files_only(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.safetensors").touch()
    (tmp_path / "siamfc").touch()  # the bundled weights of that name are meant
    names = {
        "mine.safetensors@engine=torch": f"{tmp_path}/mine.safetensors@engine=torch",
        "siamfc": "siamfc",
        "siamtrack": "siamtrack",
        "identity": "identity",
        "opencv:csrt": "opencv:csrt",
        "opencv:vit@net=v.onnx": f"opencv:vit@net={tmp_path}/v.onnx",
        "nanotrack:b.onnx,h.onnx": f"nanotrack:{tmp_path}/b.onnx,{tmp_path}/h.onnx",
        "my/code.py:Mine@speed=2": f"{tmp_path}/my/code.py:Mine@speed=2",
        "package.module:Mine": "package.module:Mine",
    }
    for given, expected in names.items():
        assert str(TrackerSpec.parse(given).with_full_paths()) == expected
