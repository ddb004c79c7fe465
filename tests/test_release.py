"""What a release says of itself: versions, changelog, model page."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def tool(name: str):
    spec = importlib.util.spec_from_file_location(f"tool_{name}", ROOT / "tools" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_model_page_is_that_of_the_cards():
    made = tool("models_page")
    assert made.PAGE.read_text(encoding="utf-8") == made.page(), "run tools/models_page.py"


def test_texts_of_this_checkout_fit_the_version():
    release = tool("release")
    problems = list(release.text_problems(ROOT, release.package_version()))
    assert [text for text in problems if "Unreleased" not in text] == []


@pytest.mark.parametrize(
    ("version", "changes", "said"),
    [
        ("1.2.0", "## Unreleased\n\n## 1.2.0\n\n- new\n", ""),
        ("1.2.0", "## Unreleased\n\n- newer\n\n## 1.2.0\n\n- new\n", "changes under Unreleased"),
        ("1.2.0", "## Unreleased\n\n## 1.2.0\n\n## 1.1.0\n\n- old\n", "says nothing of 1.2.0"),
        ("1.2", "## 1.2\n\n- new\n", "1.2 is no version"),
        ("1.3.0", "## 1.3.0\n\n- new\n", "CITATION.cff is of another version"),
    ],
)
def test_texts_of_another_version_are_found(tmp_path, version, changes, said):
    (tmp_path / "CHANGELOG.md").write_text(f"# Changelog\n\n{changes}")
    cited = "1.2.0" if version == "1.3.0" else version
    (tmp_path / "CITATION.cff").write_text(f"title: x\nversion: {cited}\nlicense: y\n")
    problems = list(tool("release").text_problems(tmp_path, version))
    assert [said in text for text in problems] == [True] * bool(said)


def test_lowest_versions_are_those_of_the_project():
    release = tool("release")
    every, small = release.lowest_requirements(light=False), release.lowest_requirements(light=True)
    assert "torch==2.3.*" in every and "opencv-python==4.10.*" in small
    assert not any(text.startswith(("torch", "scipy", "got10k")) for text in small)
