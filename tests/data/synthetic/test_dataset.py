"""Sets of clips on disk: complete files, resuming, and refusals."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from siamtrack.cli import main
from siamtrack.data.datasets import open_dataset
from siamtrack.data.synthetic import (
    Cutout,
    NoiseTextures,
    SceneConfig,
    SetReport,
    make_data_set,
    render_scene,
)
from siamtrack.data.synthetic import dataset as dataset_module
from siamtrack.errors import ConfigError, DatasetError, OutputError
from siamtrack.utils.config import build

TINY = SceneConfig(
    frame_wh=(96, 64), frame_count=8, fps=10.0, exits=1, exit_s=0.2, distractors=0, occlusions=0
)


def make(out: Path, count: int, **options: Any) -> SetReport:
    return make_data_set(
        out, NoiseTextures(32), options.pop("config", TINY), clips=count, **options
    )


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_clips_and_boxes_are_the_rendered_scenes(tmp_path: Path) -> None:
    assert make(tmp_path / "set", 2, seed=5) == SetReport(made=2, kept=0)
    for number in range(2):
        scene = list(render_scene(TINY, NoiseTextures(32), np.random.default_rng([5, number])))
        stem = tmp_path / "set" / f"clip-{number:05d}"
        boxes = np.loadtxt(stem.with_suffix(".txt"), delimiter=",")
        assert np.array_equal(boxes, [frame.box_xywh for frame in scene], equal_nan=True)
        assert np.isnan(boxes).any()
        video = cv2.VideoCapture(str(stem.with_suffix(".mp4")))
        assert video.get(cv2.CAP_PROP_FPS) == pytest.approx(10.0)
        for frame in scene:
            ok, image = video.read()
            assert ok
            assert np.abs(image.astype(float) - frame.image_bgr).mean() < 12
        assert not video.read()[0]


def test_rendered_set_opens_as_a_data_set(tmp_path: Path) -> None:
    make(tmp_path / "set", 2)
    dataset = open_dataset(f"folder:{tmp_path / 'set'}")
    assert list(dataset.names) == ["clip-00000", "clip-00001"]
    assert not dataset.problems
    sequence = dataset[0]
    assert len(sequence.frames) == len(sequence.boxes) == 8


def test_manifest_holds_seed_and_config(tmp_path: Path) -> None:
    make(tmp_path / "set", 1, seed=9)
    manifest = json.loads((tmp_path / "set" / "manifest.json").read_text())
    assert manifest["seed"] == 9
    assert build(SceneConfig, manifest["config"]) == TINY


def test_second_run_keeps_what_is_there(tmp_path: Path) -> None:
    make(tmp_path / "set", 2)
    times = {path: path.stat().st_mtime_ns for path in (tmp_path / "set").iterdir()}
    told: list[int] = []
    assert make(tmp_path / "set", 3, on_clip=told.append) == SetReport(made=1, kept=2)
    assert told == [2, 1]
    assert all(path.stat().st_mtime_ns == time for path, time in times.items())


@pytest.mark.parametrize("lost", ["clip-00001.txt", "clip-00001.mp4"])
def test_unfinished_clip_is_made_again_the_same(tmp_path: Path, lost: str) -> None:
    make(tmp_path / "set", 2)
    before = contents(tmp_path / "set")
    (tmp_path / "set" / lost).unlink()
    (tmp_path / "set" / ".clip-00001.0123.part.mp4").write_bytes(b"half a video")
    assert make(tmp_path / "set", 2) == SetReport(made=1, kept=1)
    assert contents(tmp_path / "set") == before


class FailsOnThirdClip(NoiseTextures):
    """Stops in the middle, like a run that is killed."""

    def __init__(self, error: BaseException) -> None:
        super().__init__(32)
        self._left = 2
        self._error = error

    def background(self, rng: np.random.Generator) -> np.ndarray:
        if self._left == 0:
            raise self._error
        self._left -= 1
        return super().background(rng)


@pytest.mark.parametrize("error", [KeyboardInterrupt(), DatasetError("the pictures are gone")])
def test_finished_clips_survive_an_interruption(tmp_path: Path, error: BaseException) -> None:
    # NoiseTextures draws a background for objects too: each scene takes two.
    textures = FailsOnThirdClip(error)
    textures._left = 4
    with pytest.raises(type(error)):
        make_data_set(tmp_path / "set", textures, TINY, clips=4)
    assert set(contents(tmp_path / "set")) == {"manifest.json"} | {
        f"clip-0000{k}{suffix}" for k in (0, 1) for suffix in (".mp4", ".txt")
    }
    assert make(tmp_path / "set", 4) == SetReport(made=2, kept=2)
    make(tmp_path / "whole", 4)
    assert contents(tmp_path / "set") == contents(tmp_path / "whole")


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"seed": 1}, "seed"),
        ({"config": SceneConfig(frame_wh=(96, 64), frame_count=9)}, "frame_count"),
    ],
)
def test_other_settings_do_not_mix(tmp_path: Path, change: dict[str, Any], named: str) -> None:
    make(tmp_path / "set", 1)
    with pytest.raises(OutputError, match=f"clips with another .*{named}"):
        make(tmp_path / "set", 1, **change)


def test_other_pictures_do_not_mix(tmp_path: Path) -> None:
    make(tmp_path / "set", 1)
    with pytest.raises(OutputError, match="clips with another textures; give another folder"):
        make_data_set(tmp_path / "set", NoiseTextures(64), TINY, clips=1)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "cannot be read"),
        ("[]", "is not the manifest"),
        ('{"config": 3}', "is not the manifest"),
    ],
)
def test_unreadable_or_foreign_manifest_is_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(OutputError, match=f"manifest.json {message}"):
        make(tmp_path, 1)


def test_clips_without_a_manifest_are_refused(tmp_path: Path) -> None:
    (tmp_path / "clip-00000.mp4").write_bytes(b"someone's holiday")
    with pytest.raises(OutputError, match="holds clips without a manifest"):
        make(tmp_path, 1)


def test_file_in_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "set").write_text("")
    with pytest.raises(OutputError, match=r"cannot write .*give another folder"):
        make(tmp_path / "set", 1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"clips": 0}, "clips = 0; give 1 or more"),
        ({"clips": 1, "workers": 0}, "workers = 0"),
        ({"clips": 1, "seed": -1}, "seed = -1; give 0 or more"),
    ],
)
def test_numbers_below_their_minimum_are_refused(
    tmp_path: Path, options: dict[str, int], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        make_data_set(tmp_path, NoiseTextures(32), TINY, **options)
    assert not list(tmp_path.iterdir())


def test_number_of_processes_does_not_change_the_set(tmp_path: Path) -> None:
    make(tmp_path / "one", 3)
    told: list[int] = []
    assert make(tmp_path / "two", 3, workers=2, on_clip=told.append).made == 3
    assert told == [1, 1, 1]
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


class DeadPool:
    """Stands for a pool whose processes the system has killed."""

    def __init__(self, workers: int, context: object, start: Callable[[], None]) -> None:
        assert workers == 2

    def submit(self, function: Callable[..., None], job: object) -> Future[None]:
        future: Future[None] = Future()
        future.set_exception(BrokenProcessPool("terminated abruptly"))
        return future

    def shutdown(self, *, wait: bool, cancel_futures: bool) -> None:
        assert wait
        assert cancel_futures


def test_killed_process_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dataset_module, "ProcessPoolExecutor", DeadPool)
    with pytest.raises(OutputError, match=r"was killed.*fewer workers"):
        make(tmp_path / "set", 2, workers=2)


class Tall(NoiseTextures):
    """Cut-outs of one pixel: the least a scene can be made of."""

    def cutout(self, rng: np.random.Generator) -> Cutout:
        return Cutout(np.full((1, 1, 3), 200, np.uint8), np.ones((1, 1), np.float32))


def test_a_target_of_one_pixel_is_rendered(tmp_path: Path) -> None:
    assert make_data_set(tmp_path / "set", Tall(32), TINY, clips=1).made == 1


def make_synthetic(*args: object) -> int:
    return main(["make-synthetic", *map(str, args)])


@pytest.fixture
def pictures(tmp_path: Path, rng: np.random.Generator) -> Path:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for name in ("a.png", "b.jpg"):
        cv2.imwrite(str(folder / name), NoiseTextures(48).background(rng))
    return folder


def test_the_command_makes_a_set_and_enlarges_it(
    pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "scene.toml"
    settings = ["--config", config, "--set", "frame_wh=[64, 48]", "--set", "frame_count=3"]
    config.write_text("fps = 15.0\nframe_count = 99\n")
    out = tmp_path / "set"
    assert make_synthetic(pictures, out, "--clips", 1, *settings) == 0
    assert make_synthetic(pictures, out, "--clips", 2, *settings) == 0
    assert capsys.readouterr().out.splitlines() == [
        f"{out}: 1 clips made, 0 were there",
        f"{out}: 1 clips made, 1 were there",
    ]
    manifest = json.loads((out / "manifest.json").read_text())
    assert (manifest["config"]["fps"], manifest["config"]["frame_count"]) == (15.0, 3)


@pytest.mark.parametrize(
    ("args", "code", "message"),
    [
        (["--set", "sped=1"], 2, "did you mean 'speed'"),
        (["--clips", "0"], 2, "clips = 0"),
        ([], 3, "is not a folder; give a folder of pictures"),
    ],
)
def test_the_command_reports_errors_in_one_line(
    pictures: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    args: list[str],
    code: int,
    message: str,
) -> None:
    if code == 3:
        shutil.rmtree(pictures)
    assert make_synthetic(pictures, tmp_path / "set", *args) == code
    captured = capsys.readouterr()
    assert captured.out == ""
    lines = captured.err.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("siamtrack: error: ")
    assert message in lines[0]
