"""A graph that is not that of the card never runs; what libraries raise is an error of ours."""

import json
import shutil

import numpy as np
import pytest

import siamtrack
from siamtrack.cli import main
from siamtrack.engines.base import Exemplar, Response
from siamtrack.engines.onnx_engine import OnnxEngine
from siamtrack.errors import ConfigError, EngineError
from siamtrack.models.weights import card_path, find_weights, graph_path, read_card
from siamtrack.utils.files import sha256

FRAME = np.random.default_rng(0).integers(0, 256, (120, 160, 3), np.uint8)
BOX = (50, 40, 30, 30)


@pytest.fixture
def exported():
    return find_weights("siamtrack-nano")


@pytest.fixture
def copied(exported, tmp_path):
    for file in exported.parent.glob("siamtrack-nano*"):
        shutil.copy(file, tmp_path)
    return tmp_path / exported.name


def flip(path, at):
    data = bytearray(path.read_bytes())
    data[at] ^= 0x40
    path.write_bytes(data)


def test_the_card_has_the_hashes_of_its_graphs(exported):
    card = read_card(exported)
    for name in ("exemplar", "track", "track.int8"):
        assert card.graphs[name] == sha256(graph_path(exported, name))


@pytest.mark.parametrize("name", ["exemplar", "track"])
@pytest.mark.parametrize("engine", ["auto", "onnx", "openvino:f32"])
def test_one_flipped_bit_is_refused(copied, name, engine):
    for path in copied.parent.glob(f"*.{name}*.onnx"):  # "auto" may take the quantized one
        flip(path, path.stat().st_size // 2)
    with pytest.raises(EngineError, match="is damaged"):
        siamtrack.load(copied, engine=engine, device="cpu")
    siamtrack.load(copied, engine="torch", device="cpu")


def test_a_card_without_hashes_warns_and_can_be_refreshed(copied, caplog, capsys):
    card = json.loads(card_path(copied).read_text())
    del card["graphs"]
    card_path(copied).write_text(json.dumps(card))
    siamtrack.load(copied, engine="onnx", device="cpu")
    assert "are not verified" in caplog.text
    assert main(["export", "--card", "--weights", str(copied)]) == 0
    assert len(read_card(copied).graphs) == len(capsys.readouterr().out.split())
    flip(graph_path(copied, "track"), 100_000)
    with pytest.raises(EngineError, match="is damaged"):
        siamtrack.load(copied, engine="onnx", device="cpu")
    assert main(["export", "--card", "--int8", "--calibrate", "x"]) == 2


def test_what_the_library_raises_is_an_engine_error(exported):
    for engine in ("onnx", "openvino:f32", "torch"):
        tracker = siamtrack.load(exported, engine=engine, device="cpu")
        with pytest.raises(EngineError, match="could not run the network"):
            tracker.engine.track(
                Exemplar((np.zeros(3, np.float32),), 1), [np.zeros((144, 144, 3), np.uint8)]
            )


def test_values_that_are_not_finite_are_noticed():
    whole = np.zeros((1, 2, 2), np.float32)
    assert Response(np.full_like(whole, -np.inf), None, None).is_finite
    for bad in (np.nan, np.inf):
        assert not Response(np.full_like(whole, bad), None, None).is_finite
        assert not Response(whole, None, np.full_like(whole, bad)).is_finite
        assert not Response(whole, None, None, np.full((1, 3, 2, 2), bad, np.float32)).is_finite


def test_a_graph_that_returns_nan_on_the_first_frame_is_refused(exported, monkeypatch):
    tracker = siamtrack.load(exported, engine="onnx", device="cpu")
    track = OnnxEngine.infer

    def infer(self, exemplar, batch):
        good = track(self, exemplar, batch)
        good.score_logits[0, 0, 0] = np.nan
        return good

    monkeypatch.setattr(OnnxEngine, "infer", infer)
    with pytest.raises(EngineError, match="not finite on the first frame"):
        tracker.init(FRAME, BOX)


@pytest.mark.parametrize("engine", [None, 5, "onnx:"])
def test_odd_engines_are_refused(engine, exported):
    with pytest.raises(ConfigError, match="unknown engine"):
        siamtrack.load(exported, engine=engine, device="cpu")
