"""The package as a user meets it: what an import costs, what the metadata and the wheel hold."""

from __future__ import annotations

import ast
import importlib.metadata
import os
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

import siamtrack

ROOT = Path(__file__).resolve().parents[1]
HEAVY = {
    "av",
    "cv2",
    "got10k",
    "matplotlib",
    "onnxruntime",
    "openvino",
    "scipy",
    "skimage",
    "torch",
}


def run_python(code: str, *arguments: str, cwd: Path, **environment: str) -> str:
    """Standard output of `code` in a process of its own, which coverage does not enter."""
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("COVERAGE")}
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=cwd,
        env={**inherited, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize("module", ["siamtrack", "siamtrack.cli", "siamtrack.errors"])
def test_import_is_light(module: str, tmp_path: Path) -> None:
    loaded = run_python(f"import sys, {module}; print(*sys.modules)", cwd=tmp_path).split()
    assert not HEAVY.intersection(loaded)


TRACKING = """
import sys
import numpy as np
import siamtrack

frame = np.random.default_rng(0).integers(0, 256, (240, 320, 3), np.uint8)
tracker = siamtrack.load(device=sys.argv[1], engine=sys.argv[2])
tracker.init(frame, (100, 80, 40, 40))
tracker.update(frame)
print(tracker.engine.name, *sys.modules)
"""


@pytest.mark.parametrize("engine", ["onnx", "onnx:int8", "openvino", "openvino:int8"])
def test_graph_engines_track_without_torch(engine: str, tmp_path: Path) -> None:
    name, *loaded = run_python(TRACKING, "cpu", engine, cwd=tmp_path).split()
    assert name == engine.partition(":")[0]
    assert not {"torch", "matplotlib", "scipy", "skimage", "got10k"}.intersection(loaded)
    assert ("onnxruntime" in loaded) == (name == "onnx")


def test_auto_tracks_without_torch_where_no_gpu_is_possible(tmp_path: Path) -> None:
    asked = "from siamtrack.engines.devices import gpu_is_possible; print(gpu_is_possible())"
    if run_python(asked, cwd=tmp_path) == "True":
        pytest.skip("torch may find a GPU here, and is asked")
    name, *loaded = run_python(TRACKING, "auto", "auto", cwd=tmp_path).split()
    assert name in ("onnx", "openvino")
    assert "torch" not in loaded


def test_every_public_name_can_be_had() -> None:
    for name in siamtrack.__all__:
        assert getattr(siamtrack, name) is not None
    assert set(siamtrack.__all__) <= set(dir(siamtrack))


def test_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="tracker_of_everything"):
        _ = siamtrack.tracker_of_everything


def test_version_is_that_of_the_metadata() -> None:
    assert siamtrack.__version__ == importlib.metadata.version("siamtrack")


def test_every_import_of_the_package_is_declared() -> None:
    """Nothing works by luck because another package happened to bring it."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    declared = {
        requirement.split(">")[0]
        for group in [project["dependencies"], *project["optional-dependencies"].values()]
        for requirement in group
    }
    providers = importlib.metadata.packages_distributions()
    imported: set[str] = set()
    for path in (ROOT / "siamtrack").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                imported.update(alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                imported.add(node.module)
    tops = {name.partition(".")[0] for name in imported} - sys.stdlib_module_names
    undeclared = {
        top
        for top in tops - {"siamtrack"}
        # Metadata may spell a name with capitals that requirements spell without.
        if not declared.intersection(name.lower() for name in providers.get(top, ()))
    }
    assert not undeclared


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", out],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    (built,) = out.glob("siamtrack-*.whl")
    return built


def test_wheel_holds_the_package_and_the_weights(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    package = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "siamtrack").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    weights = {
        f"siamtrack/weights_files/{path.relative_to(ROOT / 'weights').as_posix()}"
        for path in (ROOT / "weights").rglob("*")
        if path.is_file()
    }
    assert weights, "there are no weights to ship"
    assert package | weights <= names
    foreign = {name for name in names if name.startswith(("tests/", "tools/"))}
    assert not foreign


def test_weights_are_found_in_an_unpacked_wheel(wheel: Path, tmp_path: Path) -> None:
    site = tmp_path / "site"
    zipfile.ZipFile(wheel).extractall(site)
    found = run_python(
        "import siamtrack.models.weights as w; print(w.__file__); print(w.weights_dir())",
        cwd=tmp_path,
        PYTHONPATH=str(site),
    ).splitlines()
    assert [Path(line).is_relative_to(site) for line in found] == [True, True]
    assert any(Path(found[1]).glob("*.safetensors"))


def test_wheel_declares_the_command_and_the_types(wheel: Path) -> None:
    archive = zipfile.ZipFile(wheel)
    (entry_points,) = (name for name in archive.namelist() if name.endswith("entry_points.txt"))
    assert "siamtrack = siamtrack.cli:main" in archive.read(entry_points).decode()
    assert "siamtrack/py.typed" in archive.namelist()
