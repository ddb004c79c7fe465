"""Damaged files of every kind that siamtrack reads: what they hold, or a SiamTrackError."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import siamtrack
from siamtrack.api import read_source
from siamtrack.cli import main
from siamtrack.data.formats.folder import read_truth
from siamtrack.errors import SiamTrackError
from siamtrack.models.weights import read_card, weights_dir
from siamtrack.utils.config import read_toml
from tests.robustness.common import BOX, robustness, scene

MOST_FRAMES = 200  # a damaged header may claim any number

TRUTH = "frame,time_s,target,x,y,w,h,score,status\n" + "".join(
    f"{k},{k / 25},0,{10 + k},20.5,30,40,0.9,tracked\n" for k in range(5)
)

damage = st.lists(
    st.one_of(
        st.tuples(st.just("flip"), st.floats(0, 1), st.integers(1, 255)),
        st.tuples(st.just("cut"), st.floats(0, 1)),
        st.tuples(st.just("insert"), st.floats(0, 1), st.binary(min_size=1, max_size=20)),
        st.tuples(st.just("remove"), st.floats(0, 1), st.integers(1, 50)),
        st.tuples(st.just("repeat"), st.floats(0, 1), st.integers(1, 200)),
    ),
    min_size=1,
    max_size=4,
)  # fmt: skip


def damaged(content: bytes, changes: list[tuple[Any, ...]]) -> bytes:
    data = bytearray(content)
    for kind, where, *rest in changes:
        at = min(int(where * len(data)), max(len(data) - 1, 0))
        if kind == "flip" and data:
            data[at] ^= rest[0]
        elif kind == "cut":
            del data[at:]
        elif kind == "insert":
            data[at:at] = rest[0]
        elif kind == "remove":
            del data[at : at + rest[0]]
        elif kind == "repeat":
            data[at:at] = data[at : at + rest[0]]
    return bytes(data)


def read_video(path: Path) -> None:
    with siamtrack.open_source(path) as source:
        for frame, _ in zip(source, range(MOST_FRAMES), strict=False):
            assert frame.image.dtype == np.uint8 and frame.image.ndim == 3
            assert np.isfinite(frame.time_s)


def picture(suffix: str) -> bytes:
    image = scene(0)
    if suffix == ".gif":
        from PIL import Image

        file = io.BytesIO()
        shown = [Image.fromarray(np.ascontiguousarray(scene(k)[..., ::-1])) for k in range(3)]
        shown[0].save(file, "GIF", save_all=True, append_images=shown[1:], duration=40)
        return file.getvalue()
    deep = image.astype(np.uint16) * 257
    return cv2.imencode(suffix, deep if suffix == ".tiff" else image)[1].tobytes()


def read_table(path: Path) -> None:
    assert read_truth(path).shape[1:] == (4,)


KINDS: dict[str, tuple[Callable[[Path], object], Callable[[], bytes]]] = {
    "clip.mp4": (read_video, bytes),  # the fixture's
    **{
        f"picture{suffix}": (read_video, lambda suffix=suffix: picture(suffix))
        for suffix in (".png", ".jpg", ".tiff", ".bmp", ".webp", ".gif", ".ppm")
    },
    "truth.csv": (read_table, TRUTH.encode),
    "truth.txt": (read_table, b"1,2,3,4\nnan,nan,nan,nan\n5 6 7 8\n".strip),
    "options.toml": (read_toml, b"[loop]\nsteps = 5\nname = 'x'\n".strip),
    "mine.safetensors": (read_source, (weights_dir() / "siamfc.safetensors").read_bytes),
    "mine.json": (read_card, (weights_dir() / "siamfc.json").read_bytes),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore:.*:UserWarning")  # Pillow's, about damaged pictures
@pytest.mark.parametrize("name", KINDS)
@robustness
@given(changes=damage)
@example(changes=[("flip", 1.0, 128)])  # a tag of a video that is no UTF-8
@example(changes=[("remove", 0.5, 1)])  # a TIFF whose page is a line
def test_damaged_file(
    name: str, clip: Path, tmp_path_factory: pytest.TempPathFactory, changes: list[Any]
) -> None:
    read, make = KINDS[name]
    path = tmp_path_factory.mktemp("damaged") / name
    path.write_bytes(damaged(clip.read_bytes() if name == "clip.mp4" else make(), changes))
    if name == "mine.json":  # the card of weights that are there
        shutil.copy(weights_dir() / "siamfc.safetensors", path.with_suffix(".safetensors"))
    try:
        read(path.with_suffix(".safetensors") if name == "mine.json" else path)
    except SiamTrackError as error:
        assert "\n" not in str(error).strip()
    finally:
        shutil.rmtree(path.parent)


flags = st.sampled_from(
    ["--box", "--csv", "--json", "--save", "--start-frame", "--budget-ms", "--weights", "--device",
     "--engine", "--set", "--overwrite", "--no-display", "--debug", "--nothing", "-x"]
)  # fmt: skip
words = st.one_of(
    st.sampled_from(["20,20,16,16", "1,2,3", "nan,1,2,3", "9e9,9e9,1,1", "onnx", "cpu", "cuda:7",
                     "min_peak=0.2", "min_peak=x", "no_such=1", "-1", "0", "inf", "siamfc", "x.csv",
                     "no/such/folder/x.csv", "..", "", "\0", "\udcff", "x.mp4", "a=b=c"]),
    st.text(max_size=8),
)  # fmt: skip
lines = st.lists(st.one_of(flags, words, st.tuples(flags, words)), max_size=6)


@robustness
@given(parts=lines, command=st.sampled_from(["track", "compare", "eval"]))
def test_any_command_line(
    clip: Path,
    tmp_path_factory: pytest.TempPathFactory,
    capsys: pytest.CaptureFixture[str],
    command: str,
    parts: list[Any],
) -> None:
    """An exit code that the README names, and one line that says why."""
    words_ = [word for part in parts for word in ((part,) if isinstance(part, str) else part)]
    first = [str(clip), "--no-display"] if command in ("track", "compare") else []
    folder = tmp_path_factory.mktemp("line")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.delenv("DISPLAY", raising=False)
        patch.delenv("WAYLAND_DISPLAY", raising=False)
        code = main([command, *first, *words_])
    said = capsys.readouterr().err
    shutil.rmtree(folder)
    assert code in (0, 2, 3, 4), said
    if "--debug" not in words_:
        assert "Traceback" not in said
        assert said.count("siamtrack: error:") == (code != 0), said


def test_card_of_a_track_is_json(clip: Path, tmp_path: Path) -> None:
    """What the battery writes with sound input is sound: the fuzzing above is no empty test."""
    box = ",".join(map(str, BOX))
    out = tmp_path / "o.jsonl"
    assert main(["track", str(clip), "--box", box, "--no-display", "--json", str(out)]) == 0
    assert len([json.loads(line) for line in out.read_text().splitlines()]) == 12
