"""Without torch, scipy, matplotlib and got10k: what works, and what the rest says."""

from __future__ import annotations

import importlib.metadata
import re
import subprocess
import sys
from pathlib import Path

import pytest

from siamtrack.data.synthetic import small_scene
from siamtrack.errors import MissingPackageError, explain_missing, missing_package
from siamtrack.video.video_writer import VideoSink

ROOT = Path(__file__).resolve().parents[1]
BLOCKED = ("torch", "scipy", "matplotlib", "got10k", "jinja2", "openvino", "pandas")

# One process for all commands. A module that is None there cannot be imported.
RUN = f"""
import contextlib, io, json, sys
blocked = {BLOCKED!r}
sys.modules.update(dict.fromkeys(blocked))
from siamtrack.cli import main
for line in sys.stdin:
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main(json.loads(line))
    print(json.dumps([code, out.getvalue(), err.getvalue()]))
assert not any(sys.modules[name] for name in blocked)
"""


def test_commands_work_or_say_what_to_install(tmp_path: Path) -> None:
    import json

    frames = small_scene(frame_count=6)
    clip = tmp_path / "clips" / "clip.mp4"
    clip.parent.mkdir()
    clip.with_suffix(".txt").write_text(
        "\n".join(",".join(map(str, frame.box_xywh.tolist())) for frame in frames)
    )
    with VideoSink(clip, 25.0, (160, 120)) as sink:
        for frame in frames:
            sink.write(frame.image_bgr)
    box = ",".join(map(str, frames[0].box_xywh.tolist()))
    clips = tmp_path / "clips.csv"
    clips.write_text(f'clip,boxes\nclips/clip.mp4,"{box}"\n')
    track = ["track", str(clip), "--box", box, "--no-display"]
    two = [*track, "--box", "10,10,40,40", "--csv", str(tmp_path / "two.csv")]
    sized = ["--size", "96x64", "--clip-frames", "3", "--frames", "2", "--threads", "1"]
    works = [
        two,
        ["bench", *sized, "--engine", "onnx", "--tracker", "siamtrack-nano", "--json"],
        ["demo", "--frames", "2", "--out", str(tmp_path / "demo")],
        ["bench", "--clips", str(clip.parent), "--clip-frames", "3", "--engine", "onnx", "--json"],
        ["info", "--json"],
        ["compare", str(clip), "--box", box, "--tracker", "siamtrack", "--no-display"],
        ["batch", str(clips), "--out", str(tmp_path / "batch"), "--formats", "csv,mot,coco"],
        ["convert", str(tmp_path / "batch" / "clip.csv"), str(tmp_path / "cvat"), "--to", "cvat",
         "--clip", str(clip)],
    ]  # fmt: skip
    refused = {
        "torch": [
            [*track, "--weights", "siamfc"],
            [*track, "--engine", "torch"],
            [*track, "--device", "cuda"],
            ["export", "--overwrite"],
            ["train", str(tmp_path / "run")],
        ],
        "jinja2": [["eval", f"folder:{clip.parent}", "--out", str(tmp_path / "results")]],
        "openvino": [[*track, "--engine", "openvino"]],
    }
    commands = works + [command for each in refused.values() for command in each]
    done = subprocess.run(
        [sys.executable, "-c", RUN],
        input="\n".join(map(json.dumps, commands)),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    results = [json.loads(line) for line in done.stdout.splitlines()]
    assert [result[0] for result in results[: len(works)]] == [0] * len(works), results
    assert len((tmp_path / "two.csv").read_text().splitlines()) == 1 + 2 * 6
    assert len((tmp_path / "batch" / "clip.csv").read_text().splitlines()) == 1 + 6
    bench, info = json.loads(results[1][1]), json.loads(results[4][1])
    assert bench["macs"] is None and "torch" in bench["skipped"]["limit"]
    assert info["packages"]["torch"] is None and info["engine"]["chosen"] == "onnx"
    assert {"pip install torch", "pip install openvino"} <= info["advice"].keys()
    assert not list((tmp_path / "results").rglob("*.txt"))  # refused before the work
    expected = [name for name, each in refused.items() for _ in each]
    for name, (code, _, said) in zip(expected, results[len(works) :], strict=True):
        (line,) = [line for line in said.splitlines() if "error" in line]
        assert code in (2, 3) and re.search(rf"pip install '?(siamtrack\[)?{name}", line), said


def test_missing_packages_are_named_as_pip_names_them() -> None:
    assert str(missing_package("cv2.dnn", "x")).endswith("cv2, which is not installed; "
                                                         "pip install opencv-python")  # fmt: skip
    with pytest.raises(MissingPackageError, match=r"a plot needs nothing_of_ours, .*pip install"):
        with explain_missing("a plot"):
            import nothing_of_ours  # type: ignore[import-not-found]  # noqa: F401
    with pytest.raises(ModuleNotFoundError) as caught, explain_missing("a plot"):
        raise ModuleNotFoundError("without a name")
    assert not isinstance(caught.value, MissingPackageError)


def test_runtime_requirements_are_complete_and_those_of_the_lock() -> None:
    """Two are older and smaller builds; everything that they import is there, at a version."""
    pins = dict(re.findall(r"^([a-z-]+)==([^;\s]+)", text("requirements-runtime.txt"), re.M))
    locked = dict(re.findall(r"^([a-z0-9-]+)==(\S+)", text("requirements.lock"), re.M))
    smaller = {"onnxruntime", "opencv-python-headless"}
    assert {k: v for k, v in pins.items() if k not in smaller} == {
        k: locked[k] for k in pins.keys() - smaller
    }
    needed = {"opencv-python-headless": {"numpy"}}
    for name in pins.keys() - needed.keys() - {"colorama"}:
        found = importlib.metadata.requires(name) or []
        needed[name] = {
            re.split(r"[^A-Za-z0-9-]", line)[0].lower() for line in found if "extra" not in line
        }
    assert set().union(*needed.values()) <= pins.keys()
    assert not set(BLOCKED) & pins.keys()


def text(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")
