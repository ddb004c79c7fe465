"""Small clips with boxes, and the batch over them that the tests compare with."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from siamtrack.batch.run import BatchConfig, prepare_batch, run_batch
from tests.batch.common import BOX, tables, write_clip


@pytest.fixture(scope="session")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with four clips."""
    folder = tmp_path_factory.mktemp("clips")
    for seed, name in enumerate("abcd"):
        write_clip(folder / f"{name}.mp4", seed)
    return folder


def write_manifest(path: Path, clips: Path, names: str, *more: dict) -> Path:
    rows = [{"clip": str(clips / f"{name}.mp4"), "boxes": [list(BOX)]} for name in names]
    path.write_text("".join(json.dumps(row) + "\n" for row in [*rows, *more]))
    return path


@pytest.fixture
def manifest(clips: Path, tmp_path: Path):
    """Writes a manifest of those clips; further rows may be given."""

    def write(names: str = "abcd", *more: dict) -> Path:
        return write_manifest(tmp_path / "list.jsonl", clips, names, *more)

    return write


@pytest.fixture(scope="session")
def whole(clips: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The files of a batch over all clips with one worker, default options."""
    folder = tmp_path_factory.mktemp("whole")
    path = write_manifest(folder / "list.jsonl", clips, "abcd")
    config = BatchConfig(path, folder / "out", weights="siamtrack-nano", engine="onnx:int8")
    run_batch(prepare_batch(config))
    return tables(folder / "out")


@pytest.fixture
def config(tmp_path: Path):
    """Makes configurations of the smallest weights; without the online filter, which takes time."""

    def make(manifest: Path, out: str = "out", **options: object) -> BatchConfig:
        model = {"weights": "siamtrack-nano", "engine": "onnx:int8"}
        model |= {"options": {"online_filter": False}, **options}
        return BatchConfig(manifest, tmp_path / out, **model)

    return make
