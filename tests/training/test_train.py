"""Whole runs: learning, resuming after a kill, two processes, and what stops a run."""

import os
import signal
import subprocess
import sys
from dataclasses import asdict

import pytest
import torch

from siamtrack.errors import ConfigError, DatasetError, OutputError, TrainingError
from siamtrack.models.weights import load_network, read_card
from siamtrack.training import train as module
from siamtrack.training.logs import read_log

TRAIN = "import json, sys; from pathlib import Path; from siamtrack.training.config import stored_config; from siamtrack.training.train import train; train(stored_config(json.loads(sys.argv[1])), Path(sys.argv[2]), resume=len(sys.argv) > 3)"  # noqa: E501


def losses(folder, kind="train"):
    return {r["step"]: r["loss"] for r in read_log(folder / "log.jsonl") if r["kind"] == kind}


def test_a_run_leaves_weights_a_card_logs_and_curves(small_run, tmp_path):
    weights = module.train(small_run(), tmp_path / "run")
    names = {p.name for p in weights.parent.iterdir()}
    assert names == {
        "config.json", "log.jsonl", "curves.png", "last.pt", "best.pt",
        "siamtrack-lite0.safetensors", "siamtrack-lite0.json",
    }  # fmt: skip
    card = read_card(weights)
    assert card.pairs == 16 and card.training_data == ("clips",)
    assert "held_out_loss" in card.figures
    network = load_network(weights)
    assert network.config.search_size_px == 64
    assert sorted(losses(weights.parent)) == [1, 2, 3, 4]
    assert list(losses(weights.parent, "validation")) == [4]


def test_the_network_learns_eight_pairs_by_heart(small_run, tmp_path, monkeypatch):
    """The loss falls to a twentieth when the same eight pairs are shown again and again."""
    original = module.StepSampler.__iter__

    def always_the_first(sampler):
        first = next(iter(original(sampler)))
        for _ in range(len(sampler)):
            yield first

    monkeypatch.setattr(module.StepSampler, "__iter__", always_the_first)
    # No crossed pairs: of eight clips, the next pair's may be the same one, which contradicts it.
    config = small_run(
        optim={"rate": 5e-3, "schedule": "cosine", "warmup_steps": 10, "clip_norm": 0.0},
        loop={"steps": 200, "batch_size": 8, "checkpoint_every": 1000, "cross_negatives": 0.0},
        pairs={"rotation": 0.0, "augment": {"occluder": 0.0, "downsample": 0.0}},
        loss={"logistic": 1.0, "giou": 1.0},
        validation={"held_out": 0.0, "batches": 0},
    )
    module.train(config, tmp_path / "run")
    found = losses(tmp_path / "run")
    assert min(list(found.values())[-10:]) < found[1] / 20


def test_a_resumed_run_equals_an_uninterrupted_one(small_run, tmp_path, monkeypatch):
    whole = module.train(small_run(loop={"steps": 6}), tmp_path / "whole")

    class KilledError(BaseException):
        pass

    original, calls = module.compute_losses, []

    def dies_at_step_5(*args, **options):
        calls.append(1)
        if len(calls) == 6:
            raise KilledError
        return original(*args, **options)

    monkeypatch.setattr(module, "compute_losses", dies_at_step_5)
    with pytest.raises(KilledError):
        module.train(small_run(loop={"steps": 6}), tmp_path / "parts")
    monkeypatch.undo()
    assert sorted(losses(tmp_path / "parts")) == [1, 2, 3, 4, 5]
    parts = module.train(small_run(loop={"steps": 6}), tmp_path / "parts", resume=True)
    assert losses(tmp_path / "parts") == losses(tmp_path / "whole")
    a, b = (load_network(p).state_dict() for p in (whole, parts))
    for name, value in a.items():
        assert torch.equal(value, b[name]), name


def test_a_killed_process_is_resumed(small_run, tmp_path):
    import json

    text = json.dumps(asdict(small_run(loop={"steps": 300, "checkpoint_every": 1})))
    folder = tmp_path / "run"
    first = subprocess.Popen(
        [sys.executable, "-c", TRAIN, text, str(folder)], stderr=subprocess.PIPE
    )
    for line in iter(lambda: first.stderr.read(64), b""):
        if (folder / "last.pt").exists() or not line:
            break
    os.kill(first.pid, signal.SIGKILL)
    first.communicate()
    state = module.read_checkpoint(folder / "last.pt")
    assert 0 < state["step"] < 300
    short = small_run(loop={"steps": state["step"] + 1, "checkpoint_every": 1})
    module.train(short, folder, resume=True)
    assert max(losses(folder)) == state["step"] + 1


@pytest.mark.slow
def test_two_processes_learn_what_one_with_the_joined_batch_does(small_run, tmp_path):
    """Same losses to 1e-3: batch norm is frozen, as its statistics are those of one process."""
    import json

    common = {"optim": {"frozen_batch_norm": True, "frozen_stages": 0, "warmup_steps": 2}}
    shared = {"steps": 4, "cross_negatives": 0.0, "threads": 1}
    loss = {"iou_aware": 1.0, "giou": 1.5}
    one = small_run(loop={**shared, "batch_size": 4}, loss=loss, **common)
    two = small_run(loop={**shared, "batch_size": 2}, loss=loss, **common)
    module.train(one, tmp_path / "one")
    command = [
        sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2",
        "--rdzv-backend", "c10d", "--rdzv-endpoint", "localhost:0", "--no-python",
        sys.executable, "-c", TRAIN, json.dumps(asdict(two)), str(tmp_path / "two"),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    weights = [tmp_path / name / "siamtrack-lite0.safetensors" for name in ("one", "two")]
    a, b = (load_network(p).state_dict() for p in weights)
    for name, value in a.items():
        torch.testing.assert_close(value, b[name], atol=2e-3, rtol=2e-2, msg=name)
    assert losses(tmp_path / "one") == pytest.approx(losses(tmp_path / "two"), rel=1e-3)


@pytest.mark.parametrize("weight", [0.0, 0.5])
def test_siamfc_is_trained_by_the_same_loop(small_run, tmp_path, weight):
    config = small_run(
        network={"architecture": "siamfc", "config": {}},
        optim={"optimizer": "sgd", "rate": 1e-2, "schedule": "geometric"},
        loop={"steps": 2, "batch_size": 2, "cross_negatives": weight},
        validation={"held_out": 0.0, "batches": 0},
    )
    weights = module.train(config, tmp_path / "run")
    assert load_network(weights).architecture == "siamfc"


def test_a_loss_that_is_not_finite_names_its_pairs(small_run, tmp_path):
    with pytest.raises(
        TrainingError, match=r"loss of step \d+ is (nan|inf).*pairs \d+ to \d+ of seed 0"
    ):
        module.train(
            small_run(optim={"rate": 1e30, "clip_norm": 0.0, "warmup_steps": 1}), tmp_path / "run"
        )


def test_a_run_is_not_overwritten(small_run, tmp_path):
    module.train(small_run(loop={"steps": 1}), tmp_path / "run")
    with pytest.raises(OutputError, match="holds a run; give --resume"):
        module.train(small_run(loop={"steps": 1}), tmp_path / "run")


def test_resuming_with_another_network_is_refused(small_run, tmp_path):
    module.train(small_run(loop={"steps": 1}), tmp_path / "run")
    other = small_run(network={"config": {"search_size_px": 96}})
    with pytest.raises(TrainingError, match="resume with the same network"):
        module.train(other, tmp_path / "run", resume=True)


def test_resuming_nothing_is_refused(small_run, tmp_path):
    with pytest.raises(TrainingError, match="start the run without --resume"):
        module.train(small_run(), tmp_path / "run", resume=True)


def test_what_cannot_be_had_is_refused(small_run, tmp_path):
    with pytest.raises(DatasetError, match="not a finished crop cache"):
        module.train(small_run(cache=str(tmp_path)), tmp_path / "a")
    with pytest.raises(ConfigError, match="trains on cuda only"):
        module.train(small_run(loop={"precision": "float16"}), tmp_path / "b")
    with pytest.raises(ConfigError, match="unknown loss"):
        module.train(small_run(loss={"tripled": 1.0}), tmp_path / "c")
    imagenet = {"architecture": "siamfc", "config": {}, "start": "imagenet"}
    with pytest.raises(ConfigError, match="no such weights for siamfc"):
        module.train(small_run(network=imagenet), tmp_path / "d")
