from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

import siamtrack
from siamtrack.cli import info, main
from siamtrack.models.weights import build_network, list_weights, save_network

DISPLAY_PROBLEM = "siamtrack.video.window.display_problem"


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """Random weights of the default architecture, with a card."""
    path = tmp_path / "mine.safetensors"
    torch.manual_seed(0)
    network = build_network("siamtrack-lite0")
    save_network(
        network, path, training_data=["nothing"], license="CC0-1.0", figures={"auc": 0.125}, pairs=7
    )
    return path


def test_json_is_complete_and_true(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(DISPLAY_PROBLEM, lambda: "nobody looks")
    assert main(["info", "--json"]) == 0
    captured = capsys.readouterr()
    found = json.loads(captured.out)
    assert captured.err == ""
    assert found["siamtrack"] == siamtrack.__version__
    packages = found["packages"]
    assert (packages["torch"], packages["opencv"]) == (torch.__version__, cv2.__version__)
    assert packages["numpy"] == np.__version__
    assert found["devices"][0]["name"] == "cpu"
    assert [device["chosen"] for device in found["devices"]].count(True) == 1
    assert found["engine"]["chosen"] in found["engine"]["known"]
    assert found["window"]["problem"] == "nobody looks"
    assert [one["name"] for one in found["weights"]] == list(list_weights())
    assert [one["name"] for one in found["weights"] if one["default"]] == ["siamtrack-lite0"]
    assert found["shown"] is None


def test_text_shows_versions_window_and_weights(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(DISPLAY_PROBLEM, lambda: "nobody looks")
    assert main(["info"]) == 0
    printed = capsys.readouterr().out
    for word in (siamtrack.__version__, torch.__version__, "cpu", "cannot be opened: nobody looks"):
        assert word in printed
    assert "siamtrack-lite0 (default)" in printed
    monkeypatch.setattr(DISPLAY_PROBLEM, lambda: None)
    main(["info"])
    assert "can be opened" in capsys.readouterr().out


def test_the_card_of_weights_in_full(
    weights: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(DISPLAY_PROBLEM, lambda: None)
    assert main(["info", "--weights", str(weights)]) == 0
    printed = capsys.readouterr().out.split(str(weights))[1]
    for word in ("CC0-1.0", "nothing", "auc=0.125", "7", "sha256"):
        assert word in printed
    main(["info", "--weights", str(weights), "--json"])
    assert json.loads(capsys.readouterr().out)["shown"]["card"]["licence"] == "CC0-1.0"


def test_missing_card_is_shown(
    weights: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(DISPLAY_PROBLEM, lambda: None)
    weights.with_suffix(".json").unlink()
    assert main(["info", "--weights", str(weights)]) == 0
    captured = capsys.readouterr()
    assert "has no card" in captured.out and "not verified" in captured.err


def test_weights_that_do_not_match_their_card_are_refused(
    weights: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    card = weights.with_suffix(".json")
    written = json.loads(card.read_text())
    card.write_text(json.dumps({**written, "sha256": "0" * 64}))
    assert main(["info", "--weights", str(weights)]) == 3
    assert "sha256" in capsys.readouterr().err


def test_missing_weights_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", "--weights", "siamtrack-lite9"]) == 3
    captured = capsys.readouterr()
    assert "siamtrack-lite0" in captured.err and captured.out == ""


def test_an_installation_without_weights_is_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(DISPLAY_PROBLEM, lambda: None)
    monkeypatch.setattr("siamtrack.models.weights.weights_dir", lambda: tmp_path)
    assert main(["info"]) == 0
    printed = capsys.readouterr().out
    assert "came with this installation" in printed and "no weights 'siamtrack-lite0'" in printed


def test_missing_packages_are_shown_as_not_installed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(DISPLAY_PROBLEM, lambda: None)
    monkeypatch.setattr(info, "_MODULES", {"no_such_module": "no-such-package"})
    main(["info"])
    assert "no-such-package  not installed" in capsys.readouterr().out


def test_gpus_are_listed_and_the_first_is_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    class Properties:
        name, total_memory = "Some GPU", 80 * 2**30

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda k: Properties())
    devices = info._devices()
    assert [(d["name"], d["chosen"]) for d in devices] == [
        ("cpu", False),
        ("cuda:0", True),
        ("cuda:1", False),
    ]
    assert devices[1]["detail"] == "Some GPU, 80 GiB"
