from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

import siamtrack
from siamtrack.cli import main
from siamtrack.demo.run import DEFAULT_FRAMES, demo_files
from siamtrack.tracking.result import Result


class Stubborn:
    """A tracker that always answers with the box it was given."""

    def __init__(self, interrupt_at: int | None = None) -> None:
        self.updates = 0
        self.interrupt_at = interrupt_at

    def init(self, frame_bgr: np.ndarray, box: Sequence[float]) -> Result:
        x, y, w, h = map(float, box)
        self.result = Result((x, y, w, h), 1.0, "tracked")
        return self.result

    def update(self, frame_bgr: np.ndarray) -> Result:
        self.updates += 1
        if self.updates == self.interrupt_at:
            raise KeyboardInterrupt
        return self.result


def use(tracker: Stubborn, monkeypatch: pytest.MonkeyPatch) -> dict[str, object]:
    """Make it what `siamtrack.load` gives; returns the arguments of the call, once made."""
    seen: dict[str, object] = {}

    def load(weights: str | None, **options: object) -> Stubborn:
        seen.update(weights=weights, **options)
        return tracker

    monkeypatch.setattr(siamtrack, "load", load, raising=False)
    return seen


def test_it_tells_the_figures_and_where_things_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    seen = use(Stubborn(), monkeypatch)
    out = tmp_path / "a" / "b"
    arguments = ["demo", "--out", str(out), "--frames", "12", "--weights", "siamfc"]
    assert main([*arguments, "--device", "cpu", "--set", "steps=3"]) == 0
    told = capsys.readouterr().out.splitlines()
    assert told[0].startswith("mean IoU 0.") and "over 11 frames" in told[0] and "fps" in told[0]
    for path in demo_files(out).values():
        assert path.stat().st_size > 0
        assert any(line.endswith(str(path)) for line in told)
    assert f"siamtrack track {out / 'clip.mp4'} --box " in told[-1]
    assert seen == {"weights": "siamfc", "device": "cpu", "engine": "auto", "steps": 3}


def test_a_chosen_folder_is_not_overwritten_unasked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    use(Stubborn(), monkeypatch)
    sheet = tmp_path / "contact_sheet.png"
    sheet.write_text("precious")
    arguments = ["demo", "--out", str(tmp_path), "--frames", "2"]
    assert main(arguments) == 3
    assert "--overwrite" in capsys.readouterr().err and sheet.read_text() == "precious"
    assert main([*arguments, "--overwrite"]) == 0
    assert sheet.read_bytes().startswith(b"\x89PNG")


def test_its_own_folder_is_replaced_at_every_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(Stubborn(), monkeypatch)
    monkeypatch.chdir(tmp_path)
    for _ in range(2):
        assert main(["demo", "--frames", "2"]) == 0
    assert all(path.exists() for path in demo_files("siamtrack-demo").values())


def test_stopping_says_what_was_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    use(Stubborn(interrupt_at=4), monkeypatch)
    assert main(["demo", "--out", str(tmp_path), "--frames", "12"]) == 130
    captured = capsys.readouterr()
    line = captured.err.splitlines()[-1]
    assert line.startswith("siamtrack: stopped; kept ") and "boxes.csv" in line
    assert captured.out == ""
    # The header and four frames.
    assert len((tmp_path / "boxes.csv").read_text().splitlines()) == 5


@pytest.mark.parametrize("frames", ["1", "0", "many"])
def test_a_film_has_at_least_two_frames(
    frames: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["demo", "--out", str(tmp_path / "out"), "--frames", frames]) == 2
    assert "--frames" in capsys.readouterr().err


def test_help_tells_the_real_default(capsys: pytest.CaptureFixture[str]) -> None:
    main(["demo", "--help"])
    assert f"[default: {DEFAULT_FRAMES}]" in " ".join(capsys.readouterr().out.split())
