"""What README and documentation tell people to type works, and every link leads somewhere."""

from __future__ import annotations

import re
import shlex
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import cv2
import numpy as np
import pytest
import supervision as sv
import torch

from siamtrack.cli import cli, main
from siamtrack.video.tables import CSV_HEADER, TableRow, read_boxes, write_table

ROOT = Path(__file__).resolve().parents[1]
# The log of experiments quotes commands as they were at the time.
PAGES = [
    ROOT / "README.md",
    *(p for p in sorted((ROOT / "docs").rglob("*.md")) if p.name != "experiments.md"),
]


def code(page: Path, language: str) -> list[str]:
    text = page.read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```$", text, flags=re.DOTALL | re.MULTILINE)


def commands(program: str) -> list[str]:
    """Every command line of that program, joined where it is continued."""
    found = []
    for page in PAGES:
        for block in code(page, "(?:sh)?"):
            for line in block.replace("\\\n", " ").splitlines():
                line = line.split("  #")[0].strip().removeprefix("time ")
                if line.startswith(f"{program} "):
                    found.append(line)
    return sorted(set(found))


@pytest.mark.parametrize("line", commands("siamtrack"))
def test_command_line_is_understood(line: str) -> None:
    _, *arguments = shlex.split(line, comments=True)
    with cli.make_context("siamtrack", list(arguments)) as context:
        name, command, rest = cli.resolve_command(context, arguments)
        assert name is not None and command is not None
        with command.make_context(name, rest, parent=context):
            pass


def test_commands_were_found() -> None:
    assert len(commands("siamtrack")) > 40


@pytest.mark.parametrize("line", commands("make"))
def test_make_target_exists(line: str) -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert re.search(rf"^{line.split()[1]}:", makefile, flags=re.MULTILINE)


class Detected:
    """What ultralytics answers for one picture, as far as the examples use it.

    Its tensors cannot be read without `detach().cpu()`, as those on a GPU.
    """

    names: ClassVar = {0: "person", 39: "bottle"}

    def __init__(self) -> None:
        corners = torch.tensor([[120.0, 80, 180, 170], [300, 90, 350, 170]], requires_grad=True)
        self.boxes = SimpleNamespace(xyxy=corners, cls=torch.tensor([39.0, 0.0]))


class Yolo:
    def __init__(self, weights: str) -> None:
        assert weights.endswith(".pt")

    def __call__(self, image: np.ndarray) -> list[Detected]:
        assert image.dtype == np.uint8 and image.shape == (240, 480, 3)
        return [Detected()]


@pytest.fixture
def clip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with the `clip.mp4` and `tracks.csv` of the examples, and a detector."""
    monkeypatch.chdir(tmp_path)
    # The package itself downloads the weights that its detectors need.
    monkeypatch.setitem(sys.modules, "ultralytics", SimpleNamespace(YOLO=Yolo))  # type: ignore[arg-type]
    rows = [
        TableRow(frame, target, (10.0 + (5 + target) * frame, 20.0, 30.0, 40.0), frame / 25)
        for frame in range(20)
        for target in range(2)
    ]
    write_table("tracks.csv", rows)
    rng = np.random.default_rng(0)
    size_wh = (480, 240)
    writer = cv2.VideoWriter("clip.mp4", cv2.VideoWriter.fourcc(*"mp4v"), 25, size_wh)
    for _ in range(4):
        writer.write(rng.integers(0, 255, (size_wh[1], size_wh[0], 3), np.uint8))
    writer.release()
    return tmp_path / "clip.mp4"


EXAMPLES = [
    pytest.param(example, id=f"{page.relative_to(ROOT).as_posix()}-{number}")
    for page in PAGES
    for number, example in enumerate(code(page, "python"))
]


@pytest.mark.usefixtures("clip")
@pytest.mark.parametrize("example", EXAMPLES)
def test_python_example_runs(example: str) -> None:
    exec(compile(example, "example", "exec"), {})


@pytest.mark.usefixtures("clip")
def test_readme_examples_print_every_frame(capsys: pytest.CaptureFixture[str]) -> None:
    one, several = code(ROOT / "README.md", "python")
    exec(compile(one, "README.md", "exec"), {})
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["1", "2", "3"]
    exec(compile(several, "README.md", "exec"), {})
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["0", "1", "2", "3"]
    assert "{0: (120.0, 80.0, 180.0, 170.0), 1: (300.0, 90.0, 350.0, 170.0)}" in lines[0]


@pytest.mark.usefixtures("clip")
def test_speeds_with_pandas_are_in_px_per_second(capsys: pytest.CaptureFixture[str]) -> None:
    (speeds,) = (e for e in code(ROOT / "docs/howto/libraries.md", "python") if "speed" in e)
    exec(compile(speeds, "libraries.md", "exec"), {})
    printed = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert [row for row in printed if row[0].isdigit()] == [["0", "125.0"], ["1", "150.0"]]


@pytest.mark.usefixtures("clip")
def test_a_detector_s_boxes_are_tracked_and_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = []
    annotate = sv.LabelAnnotator.annotate

    def record(self: Any, scene: Any, detections: Any, labels: Any) -> Any:
        drawn.append((detections.xyxy.tolist(), labels))
        return annotate(self, scene, detections, labels)

    monkeypatch.setattr(sv.LabelAnnotator, "annotate", record)
    (example,) = (e for e in code(ROOT / "docs/howto/libraries.md", "python") if "YOLO" in e)
    exec(compile(example, "libraries.md", "exec"), {})
    assert drawn[0] == ([[120, 80, 180, 170], [300, 90, 350, 170]], ["0 bottle", "1 person"])
    capture = cv2.VideoCapture("annotated.mp4")
    assert len(drawn) == capture.get(cv2.CAP_PROP_FRAME_COUNT) == 4


TABLE_OF_BOXES = [
    block for page in PAGES for block in code(page, "csv") if block.startswith("frame,target,")
]


def test_tables_of_boxes_can_be_read(tmp_path: Path) -> None:
    (table,) = TABLE_OF_BOXES
    (tmp_path / "boxes.csv").write_text(table)
    assert read_boxes(tmp_path / "boxes.csv")[20] == {1: (300.0, 90.0, 50.0, 80.0)}


def test_csv_header_is_the_one_written() -> None:
    assert f"`{CSV_HEADER}`" in (ROOT / "README.md").read_text(encoding="utf-8")


def test_commands_of_batch_and_formats_do_what_their_pages_say(clip: Path) -> None:
    folder, ran = clip.parent, 0
    (folder / "clips.csv").write_text('clip,boxes\nclip.mp4,"120,80,60,90;300,90,50,80"\n')
    for page in ("howto/batch.md", "formats.md"):
        lines = "".join(code(ROOT / "docs" / page, "sh")).splitlines()
        for line in (line.split("  #")[0] for line in lines):
            # Of the batches, the one with --formats; a cluster and the studio have their own tests.
            if not re.match(r"siamtrack (convert (?!clip)|batch .*(--formats|--status))", line):
                continue
            # The size stands for that of the reader's clip, and the files for those of programs.
            words = shlex.split(line.replace("1280,720", "480,240"))[1:]
            for made, needed in (
                ("results/clip.csv", "out.csv"),
                ("out.xml", "annotations.xml"),
                ("results/clip.mot/gt/gt.txt", "gt.txt"),
            ):
                if needed in words:
                    shutil.copy(folder / made, folder / needed)
            assert main(words) == 0, line
            ran += 1
    assert ran == 7
    assert len((folder / "results" / "clip.csv").read_text().splitlines()) == 1 + 4 * 2
    assert (folder / "mot" / "img1" / "000004.jpg").exists()


LINKS = [
    pytest.param(page, target, id=f"{page.name}-{target}")
    for page in [*PAGES, ROOT / "docs" / "experiments.md", ROOT / "CONTRIBUTING.md"]
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8"))
]


@pytest.mark.parametrize(("page", "target"), LINKS)
def test_link_leads_somewhere(page: Path, target: str) -> None:
    assert (page.parent / target).exists()
