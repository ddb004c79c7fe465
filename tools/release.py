"""Everything that is checked before a release: python tools/release.py [--python PYTHON ...].

1. The version is the same everywhere, and the changelog has a section of it.
2. Wheel and sdist are built, and twine accepts both.
3. They are installed in empty environments in another folder and run the demo: the wheel with
   every Python that is given and the newest dependencies, the sdist once, and the wheel once with
   the lowest dependencies that `pyproject.toml` allows.

With --light the environments get no torch, as in the README's small installation: PyPI's build of
it for Linux is 6 GB. Nothing is uploaded: the last lines say what to do by hand.

The demo of 40 frames shows that everything runs. Its figures say nothing of a version: its film is
nine times as fast as usual, and that OpenCV 4 and 5 render it differently, by up to 3 of 255
levels, makes a mean IoU of 0.304 or 0.404. Over the same frames both versions give the same one.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PIP = ("-m", "pip", "install", "--quiet", "--disable-pip-version-check")
CHECK = """
import siamtrack, sys
from siamtrack.models.weights import list_weights
assert siamtrack.__file__.startswith(sys.prefix), siamtrack.__file__
assert {"siamtrack-lite0", "siamtrack-nano", "siamfc"} <= set(list_weights()), list_weights()
"""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the checks; the first that fails ends the program with its reason."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("--python", action="append", default=[], help="interpreter to install in")
    parser.add_argument("--light", action="store_true", help="install without torch")
    parser.add_argument("--trial", action="store_true", help="go on if a text does not fit")
    given = parser.parse_args(arguments)
    version = package_version()
    problems = list(text_problems(ROOT, version))
    for problem in problems:
        say(f"release: {problem}")
    if problems and not given.trial:
        sys.exit("release: failed: mend the texts first")
    pythons = given.python or [sys.executable]
    with tempfile.TemporaryDirectory(prefix="siamtrack-release-") as work:
        dist = ROOT / "dist"
        shutil.rmtree(dist, ignore_errors=True)
        tools = make_environment(Path(work, "tools"), sys.executable)
        run(tools, *PIP, "build", "twine")
        run(tools, "-m", "build", "--outdir", dist, ROOT)
        files = sorted(dist.iterdir())
        run(tools, "-m", "twine", "check", "--strict", *files)
        (wheel,), (sdist,) = dist.glob("*.whl"), dist.glob("*.tar.gz")
        newest = light_requirements() if given.light else []
        for number, python in enumerate(pythons):
            check(Path(work, f"newest-{number}"), python, wheel, newest, given.light)
        check(Path(work, "sdist"), pythons[0], sdist, newest, given.light)
        lowest = lowest_requirements(light=given.light)
        check(Path(work, "lowest"), pythons[0], wheel, lowest, given.light)
    say(f"release: {', '.join(file.name for file in files)} are sound")
    if not problems:
        say(f"    git tag -a v{version} -m 'siamtrack {version}' && git push origin v{version}")
        say("    twine upload dist/*")


def package_version() -> str:
    """The version, without importing the package."""
    text = (ROOT / "siamtrack" / "_version.py").read_text(encoding="utf-8")
    return re.findall(r'__version__ = "(.*)"', text)[0]


def text_problems(root: Path, version: str) -> Iterator[str]:
    """What does not fit the version in the texts of a checkout."""
    if not re.fullmatch(r"\d+\.\d+\.\d+((a|b|rc)\d+)?", version):
        yield f"{version} is no version; give MAJOR.MINOR.PATCH in siamtrack/_version.py"
    changes = (root / "CHANGELOG.md").read_text(encoding="utf-8")
    sections = re.split(r"^## ", changes, flags=re.MULTILINE)[1:]
    parts = (section.partition("\n") for section in sections)
    bodies = {head.split()[0]: body.strip() for head, _, body in parts}
    if not bodies.get(version):
        yield f"CHANGELOG.md says nothing of {version}; add a section ## {version}"
    elif bodies.get("Unreleased"):
        yield f"CHANGELOG.md has changes under Unreleased; move them to ## {version}"
    citation = (root / "CITATION.cff").read_text(encoding="utf-8")
    if f"\nversion: {version}\n" not in citation:
        yield f"CITATION.cff is of another version; write version: {version}"


def light_requirements() -> list[str]:
    """Names of the packages of the small installation."""
    lines = (ROOT / "requirements-runtime.txt").read_text(encoding="utf-8").splitlines()
    return [re.split(r"[=;]", line)[0].strip() for line in lines if line and line[0] != "#"]


def lowest_requirements(*, light: bool) -> list[str]:
    """The lowest version of every dependency that `pyproject.toml` allows."""
    with (ROOT / "pyproject.toml").open("rb") as file:
        project = tomllib.load(file)["project"]
    # The small installation has OpenCV's other package of the same files.
    small = {name.lower().removesuffix("-headless") for name in light_requirements()}
    bounds = (text.split(">=") for text in project["dependencies"])
    return [f"{name}=={low}.*" for name, low in bounds if not light or name.lower() in small]


def make_environment(folder: Path, python: str) -> Path:
    """An empty environment; returns its Python."""
    run(python, "-m", "venv", folder)
    return folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def check(
    folder: Path, python: str, package: Path, requirements: Sequence[str], light: bool
) -> None:
    """Install a wheel or sdist in an empty environment, and run the demo there."""
    inside = make_environment(folder, python)
    if requirements:
        run(inside, *PIP, *requirements)
    run(inside, *PIP, *(["--no-deps"] if light else []), package)
    run(inside, "-c", CHECK, cwd=folder)
    run(inside, "-m", "siamtrack", "--version", cwd=folder)
    run(inside, "-m", "siamtrack", "demo", "--frames", "40", cwd=folder)
    if not light:
        run(inside, "-m", "pip", "check", cwd=folder)
    shutil.rmtree(folder)


def run(*command: object, cwd: Path | None = None) -> None:
    """Run a command; one that fails ends the program."""
    words = [str(word) for word in command]
    say(f"release: {' '.join(words)[:160]}".replace("\n", " "))
    hidden = ("PYTHONPATH", "VIRTUAL_ENV")
    environment = {name: value for name, value in os.environ.items() if name not in hidden}
    if subprocess.run(words, cwd=cwd, env=environment).returncode:
        sys.exit(f"release: failed: {' '.join(words)[:160]}")


def say(text: str) -> None:
    """Print a line at once."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
