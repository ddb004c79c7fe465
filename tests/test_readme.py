"""What the README tells people to type works."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import cv2
import numpy as np
import pytest

from siamtrack.cli import cli
from siamtrack.video.tables import CSV_HEADER

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def code(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", README, flags=re.DOTALL | re.MULTILINE)


def commands(program: str) -> list[str]:
    lines = [line.split("  #")[0].strip() for block in code("sh") for line in block.splitlines()]
    return [line for line in lines if line.startswith(f"{program} ")]


@pytest.mark.parametrize("line", commands("siamtrack"))
def test_command_line_is_understood(line: str) -> None:
    _, *arguments = shlex.split(line)
    with cli.make_context("siamtrack", list(arguments)) as context:
        name, command, rest = cli.resolve_command(context, arguments)
        assert name is not None and command is not None
        with command.make_context(name, rest, parent=context):
            pass


@pytest.mark.parametrize("line", commands("python"))
def test_tool_has_the_options(line: str) -> None:
    _, script, *arguments = shlex.split(line)
    source = (ROOT / script).read_text(encoding="utf-8")
    missing = [name for name in arguments if name.startswith("--") and f'"{name}"' not in source]
    assert not missing


@pytest.mark.parametrize("line", commands("make"))
def test_make_target_exists(line: str) -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert re.search(rf"^{line.split()[1]}:", makefile, flags=re.MULTILINE)


def test_python_example_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    size_wh = (320, 240)
    writer = cv2.VideoWriter("clip.mp4", cv2.VideoWriter.fourcc(*"mp4v"), 25, size_wh)
    for _ in range(4):
        writer.write(rng.integers(0, 255, (size_wh[1], size_wh[0], 3), np.uint8))
    writer.release()
    (example,) = code("python")
    exec(compile(example, "README.md", "exec"), {})
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["1", "2", "3"]


def test_csv_header_is_the_one_written() -> None:
    assert f"`{CSV_HEADER}`" in README


@pytest.mark.parametrize("target", re.findall(r"\]\(([^)#:]+)\)", README))
def test_link_leads_somewhere(target: str) -> None:
    assert (ROOT / target).exists()
