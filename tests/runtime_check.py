"""Prove the light installation: build the wheel, install it in an empty environment, use it there.

    python tests/runtime_check.py [FOLDER]

Needs nothing but Python and pip. FOLDER (build/runtime-check) is emptied first. Prints what was
checked and the size; exits with 1 at the first thing that is not as the README says.
"""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
MOST_MB = 400  # 2**20 bytes
ABSENT = ("got10k", "jinja2", "matplotlib", "pandas", "scipy", "sympy", "torch", "triton")

LOAD = """
import csv, sys
from importlib.util import find_spec
import siamtrack
box = tuple(float(text) for text in sys.argv[2].split(","))
tracker = siamtrack.load()
with siamtrack.open_source(sys.argv[1]) as frames:
    tracker.init(next(frames).image, box=box)
    count = sum(tracker.update(frame.image).status in ("tracked", "uncertain", "lost")
                for frame in frames)
there = [name for name in sys.argv[3:] if find_spec(name)]
print(siamtrack.__file__, count, tracker.engine.name, *there)
"""


def main(work: Path) -> None:
    work = work.resolve()  # commands run in a folder of it
    shutil.rmtree(work, ignore_errors=True)
    elsewhere = work / "elsewhere"
    elsewhere.mkdir(parents=True)
    venv.create(work / "venv", with_pip=True)
    python = work / "venv" / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    (site,) = (work / "venv").rglob("site-packages")
    before_mb = size_mb(site)

    # 1. Build and install as the README says.
    run(python, "-m", "pip", "wheel", "-q", "--no-deps", "-w", work / "dist", ROOT)
    (wheel,) = (work / "dist").glob("siamtrack-*.whl")
    requirements = ROOT / "requirements-runtime.txt"
    pip = "-m", "pip", "install", "-q", "--no-deps", "--no-compile"
    run(python, *pip, "-r", requirements, wheel)

    # 2. Use it from another folder.
    def siamtrack(*arguments: object, code: int = 0) -> subprocess.CompletedProcess[str]:
        return run(python, "-m", "siamtrack", *arguments, cwd=elsewhere, code=code)

    siamtrack("--version")
    siamtrack("demo", "--out", "demo", "--frames", 90)
    with (elsewhere / "demo/truth.csv").open() as file:
        rows = list(csv.DictReader(file))
    box = ",".join(rows[0][name] for name in "xywh")
    expect((elsewhere / "demo/contact_sheet.png").stat().st_size > 10_000, "the contact sheet")
    flags = "--box", box, "--no-display"
    siamtrack("track", "demo/clip.mp4", *flags, "--csv", "one.csv", "--save", "one.mp4")
    expect(len((elsewhere / "one.csv").read_text().splitlines()) == 91, "a row per frame")
    two = "--box", "700,100,60,60", "--csv", "two.csv"
    siamtrack("track", "demo/clip.mp4", *flags, *two)

    clips = "".join(f'demo/clip.mp4,"{box}",{name}\n' for name in "abc")
    (elsewhere / "clips.csv").write_text(f"clip,boxes,name\n{clips}")
    batch = "batch", "clips.csv", "--out", "results", "--formats", "csv,mot"
    siamtrack(*batch, "--workers", 2)
    said = siamtrack(*batch, "--status").stdout
    expect("3 of 3 clips done" in said, f"all clips done, not {said}")
    tables = {(elsewhere / f"results/{name}.csv").read_bytes() for name in "abc"}
    expect(len(tables) == 1 and tables.pop().count(b"\n") == 91, "the same table of every clip")
    expect((elsewhere / "results/c.mot/gt/gt.txt").is_file(), "a MOT folder of every clip")

    # 3. Exported weights, under a name and in a folder of their own.
    bundled = next(site.rglob("weights_files"))
    for file in bundled.glob("siamtrack-nano.*"):
        shutil.copy(file, elsewhere / file.name.replace("siamtrack-nano", "mine"))
    own = "--weights", "mine.safetensors"
    for engine in ("onnx", "onnx:int8"):
        siamtrack("track", "demo/clip.mp4", *flags, *own, "--engine", engine, "--json", "m.jsonl",
                  "--overwrite")  # fmt: skip

    # 4. Python, bench and info.
    loaded = run(python, "-c", LOAD, "demo/clip.mp4", box, *ABSENT, cwd=elsewhere).stdout.split()
    expect(Path(loaded[0]).is_relative_to(site), f"siamtrack from the wheel, not {loaded[0]}")
    expect(loaded[1:] == ["89", "onnx"], f"89 frames on onnx without {ABSENT}, not {loaded[1:]}")
    tiny = "--frames", 4, "--clip-frames", 4, "--size", "96x64", "--threads", 1
    bench = json.loads(siamtrack("bench", *tiny, "--json").stdout)
    expect([row["name"] for row in bench["trackers"]] == ["onnx int8", "onnx f32"], "both engines")
    clip = "demo/clip.mp4", "--box", box, "--frames", 4, "--clip-frames", 4
    siamtrack("bench", *clip, "--tracker", "siamtrack-nano", "--engine", "onnx")
    info = json.loads(siamtrack("info", "--json").stdout)
    expect(info["packages"]["torch"] is None and info["engine"]["chosen"] == "onnx", "info")
    expect(any("torch" in command for command in info["advice"]), "advice to install torch")

    # 5. What needs torch says so in one line.
    for command in (
        ("track", "demo/clip.mp4", *flags, "--csv", "no.csv", "--weights", "siamfc"),
        ("track", "demo/clip.mp4", *flags, "--csv", "no.csv", "--engine", "torch"),
        ("export", *own, "--overwrite"),
        ("train", "out"),
    ):
        said = siamtrack(*command, code=3).stderr.splitlines()
        errors = [line for line in said if line.startswith("siamtrack: error:")]
        expect(len(errors) == 1 and "pip install torch" in errors[0], f"one line, not {said}")
        expect(not any("Traceback" in line for line in said), "no traceback")

    for source, why in (("987", "camera 987 cannot be opened"), ("none.mp4", "none.mp4 cannot be")):
        said = siamtrack("track", source, *flags, code=3).stderr
        expect(why in said and "Traceback" not in said, f"{why}, not {said}")

    # 6. Size, what Python compiled while it ran included.
    added_mb = size_mb(site) - before_mb
    expect(added_mb < MOST_MB, f"less than {MOST_MB} MB, not {added_mb:.0f}")
    whole_mb = size_mb(work / "venv")
    say(f"runtime-check: passed; {added_mb:.0f} MB installed, {whole_mb:.0f} with Python's own pip")


def run(
    *command: object, cwd: Path | None = None, code: int = 0
) -> subprocess.CompletedProcess[str]:
    """Run a command and expect its exit code."""
    hidden = ("PYTHONPATH", "VIRTUAL_ENV", "COVERAGE_PROCESS_START", "COVERAGE_PROCESS_CONFIG")
    environment = {name: value for name, value in os.environ.items() if name not in hidden}
    words = [str(word) for word in command]
    say(f"  {' '.join(words[1:])[:140]}".replace("\n", " "))
    done = subprocess.run(
        words, cwd=cwd, env=environment, capture_output=True, text=True, check=False
    )
    expect(done.returncode == code, f"exit code {code}, not {done.returncode}: {done.stderr}")
    return done


def expect(true: bool, what: str) -> None:
    if not true:
        sys.exit(f"runtime-check: failed: expected {what}")


def say(text: str) -> None:
    print(text, flush=True)


def size_mb(folder: Path) -> float:
    """Size of all files under a folder in 2**20 bytes."""
    files = (path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
    return sum(path.stat().st_size for path in files) / 2**20


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "build" / "runtime-check")
