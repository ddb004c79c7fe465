"""From a folder of clips to weights in one call, at small crops and with one step of training."""

import re
import shutil
from dataclasses import replace
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from siamtrack.cli import main
from siamtrack.data.cache import CacheConfig, prepare
from siamtrack.errors import EngineError
from siamtrack.evaluation.calibration import Observations
from siamtrack.models.lite0 import Lite0Config, SiamTrackLite0
from siamtrack.models.weights import NOT_CALIBRATED, read_card, save_network
from siamtrack.tracking.options import BoxHeadOptions
from siamtrack.training import finetune as module

NETWORK = Lite0Config(
    exemplar_size_px=32, search_size_px=80, neck_channels=8, head_channels=8, kernel_cells=2
)
QUICK = ("loop.batch_size=2", "loop.workers=0", "loop.precision=float32", "loop.device=cpu",
         "optim.frozen_stages=0", "validation.batches=1")  # fmt: skip


def write_clips(root, names, frames=4):
    for number, name in enumerate(names):
        (root / name).mkdir(parents=True)
        rows = []
        for frame in range(frames):
            picture = np.full((90, 90, 3), 40, np.uint8)
            x = 20 + 3 * frame
            picture[30:54, x : x + 24] = (200, 90 + 40 * number, 160)
            picture[36:46, x + 6 : x + 16] = 250
            cv2.imwrite(str(root / name / f"{frame}.png"), picture)
            rows.append(f"{x},30,24,24")
        (root / f"{name}.txt").write_text("\n".join(rows) + "\n")
    return root


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    path = tmp_path_factory.mktemp("start") / "start.safetensors"
    save_network(
        SiamTrackLite0(NETWORK), path, training_data=["zoo"], license="CC0-1.0",
        tracker={"lost_after": 5}, notes=f"Made for a test. {NOT_CALIBRATED}",
    )  # fmt: skip
    return path


@pytest.fixture
def no_exporter(monkeypatch):
    """A machine without the packages that export."""

    def missing():
        raise EngineError("pip install 'siamtrack[export]'")

    monkeypatch.setattr(module, "require_exporter", missing)


def test_three_clips_become_weights_with_a_measure(start, tmp_path, no_exporter, capsys):
    clips = write_clips(tmp_path / "clips", ("dog", "cat", "car"))
    command = ["finetune", str(clips), "--out", str(tmp_path / "mine"), "--weights", str(start)]
    quick = [word for setting in QUICK for word in ("--set", setting)]
    assert main([*command, "--steps", "1", *quick]) == 0
    printed = capsys.readouterr()
    weights = tmp_path / "mine" / "siamtrack-lite0.safetensors"
    assert printed.out == f"{weights}\n"
    lines = [line for line in printed.err.splitlines() if line.startswith("siamtrack: ")]
    held_out = next(line for line in lines if "held out: " in line).partition("held out: ")[2]
    assert held_out in ("dog", "cat", "car")  # one of three
    assert any("with start.safetensors" in line for line in lines)
    assert any("not exported" in line and "siamtrack[export]" in line for line in lines)
    assert lines[-1] == f"siamtrack: now run siamtrack track VIDEO --weights {weights}"
    card = read_card(weights)
    assert card.config["search_size_px"] == 80 and card.tracker["lost_after"] == 5
    assert card.training_data == ("zoo", "folder") and card.pairs == 2
    assert {"held_out_loss", "held_out_success_auc"} <= card.figures.keys()


def test_of_two_clips_none_is_held_out_and_nothing_is_measured(start, tmp_path, no_exporter):
    clips = write_clips(tmp_path / "clips", ("dog", "cat"))
    made = module.finetune(
        f"folder:{clips}", tmp_path / "mine", start=str(start), steps=1, assignments=QUICK
    )
    assert made.success_auc is None and read_card(made.weights).figures == {}
    assert made.notes[0] == "held out: no clip, of so few"
    assert "not measured" in made.notes[-1]


def test_the_configuration_is_that_of_the_start_weights(tmp_path):
    clips = write_clips(tmp_path / "clips", ("dog", "cat", "car"), frames=2)
    cache = prepare([f"folder:{clips}"], tmp_path / "cache", CacheConfig())
    config = module.fine_tuning_config(cache, "siamtrack-nano", 30, ("optim.rate=1e-5",))
    given = read_card("siamtrack-nano").config
    sizes = {key: given[key] for key in ("exemplar_size_px", "search_size_px", "kernel_cells")}
    assert sizes.items() <= config.network.config.items()
    assert config.pairs.search_shift_px == pytest.approx(
        72 * sizes["search_size_px"] / 256, abs=0.1
    )
    longer = module.fine_tuning_config(cache, "siamtrack-nano", 900, ("optim.rate=1e-5",))
    assert replace(longer, loop=config.loop) == config  # a run can be resumed to be longer
    assert config.optim.rate == 1e-5 and config.validation.held_out == pytest.approx(1 / 3)
    siamfc = module.fine_tuning_config(cache, "siamfc", 30)
    assert siamfc.network.architecture == "siamfc" and siamfc.optim.frozen_stages == 0


def observations(*, right, clips=2, count=200):
    """Frames whose peak says with probability 0.9 whether the box is right, or only right ones."""
    rng = np.random.default_rng(0)
    peaks = rng.normal(0, 3, count)
    good = np.full(count, True) if right else (peaks > 0) ^ (rng.random(count) < 0.1)
    cues = np.column_stack([peaks, np.zeros(count), np.zeros(count)])
    return Observations(cues, good, np.full(count, 1 / count), np.arange(count) % clips)


@pytest.mark.parametrize(
    ("observed", "says"),
    [
        (observations(right=False), "score calibrated on 2 clips that were held out"),
        (observations(right=True), "carried over from the initial weights: every box was right"),
        (observations(right=False, clips=1), "carried over .* one sequence cannot be left out"),
    ],
)
def test_the_score_is_fitted_only_where_that_can_be_judged(
    start, tmp_path, monkeypatch, observed, says
):
    for path in start.parent.iterdir():
        shutil.copy(path, tmp_path)
    weights, options = tmp_path / start.name, BoxHeadOptions(filter_score_gain=5.0)
    monkeypatch.setattr(module, "load", lambda _: SimpleNamespace(engine=None, options=options))
    monkeypatch.setattr(module, "observe", lambda *_: observed)
    assert re.search(says, module._calibrate(weights, [None, None]))
    card = read_card(weights)
    fitted = "calibrated on" in says
    assert ("filter_score_gain" in card.tracker) == fitted
    assert (NOT_CALIBRATED not in card.notes) == fitted
