"""Runs whose pairs are made on the device, of a packed cache, within a limit of time."""

import json
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch

from siamtrack.cli import main
from siamtrack.data.cache import CropCache
from siamtrack.data.packed import pack_cache
from siamtrack.models.lite0 import Lite0Config, SiamTrackLite0
from siamtrack.models.weights import load_network, read_card, save_network
from siamtrack.training import clock as clock_module
from siamtrack.training import train as module
from siamtrack.training.clock import RunClock
from siamtrack.training.distributed import ProcessGroup
from siamtrack.training.logs import read_log
from siamtrack.training.optim import learning_rate
from siamtrack.training.throughput import measure


@pytest.fixture(scope="module")
def packed(clips_cache, tmp_path_factory):
    out = tmp_path_factory.mktemp("packed") / "clips.crops"
    return pack_cache(CropCache(clips_cache), np.ones(8), out, megabytes=1).path


def lines(folder, name):
    return {r["step"]: r[name] for r in read_log(folder / "log.jsonl") if r["kind"] == "train"}


def words(config):
    """A configuration as options of `siamtrack train`."""

    def leaves(prefix, values):
        for key, value in values.items():
            if isinstance(value, dict):
                yield from leaves(f"{prefix}{key}.", value)
            elif value != "":
                yield f"{prefix}{key}={json.dumps(value)}"

    return [word for text in leaves("", asdict(config)) for word in ("--set", text)]


def test_the_command_learns_from_a_packed_cache_and_resumes(small_run, packed, tmp_path, capsys):
    """The loss of 40 steps falls by a third, and goes on from a checkpoint as if uninterrupted."""

    def options(steps):
        return words(
            small_run(
                cache=str(packed),
                optim={"rate": 4e-3, "schedule": "constant", "warmup_steps": 5},
                loop={"steps": steps, "batch_size": 8, "checkpoint_every": 10,
                      "device_pairs": True},
                loss={"logistic": 1.0, "giou": 1.0},
            )
        )  # fmt: skip

    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert main(["train", str(whole), *options(40)]) == 0
    weights = Path(capsys.readouterr().out.strip())
    loss = list(lines(whole, "loss").values())
    assert np.mean(loss[-5:]) < 0.67 * np.mean(loss[:5]), loss
    assert main(["train", str(parts), *options(30)]) == 0
    assert main(["train", str(parts), *options(40), "--resume"]) == 0
    assert lines(parts, "loss") == lines(whole, "loss")
    again = Path(capsys.readouterr().out.split()[-1])
    a, b = load_network(weights).state_dict(), load_network(again).state_dict()
    assert all(torch.equal(value, b[name]) for name, value in a.items())
    assert read_card(weights).pairs == 320 and "held_out_loss" in read_card(weights).figures
    assert (whole / "best.pt").exists()


def test_features_of_the_online_filter_learn_from_pairs_of_the_device(small_run, packed, tmp_path):
    torch.manual_seed(0)
    sizes = {"exemplar_size_px": 32, "search_size_px": 64, "neck_channels": 16,
             "kernel_cells": 2, "head_channels": 16}  # fmt: skip
    start = tmp_path / "start.safetensors"
    network = SiamTrackLite0(Lite0Config(**sizes))
    save_network(network, start, training_data=["nothing"], license="none")
    config = small_run(
        cache=str(packed),
        network={"start": str(start), "config": {**sizes, "filter_channels": 8}},
        pairs={"memory": 3, "negative": 0.1, "rotation": 0.0},
        optim={"only_filter": True, "rate": 5e-3, "warmup_steps": 5, "ema_decay": 0.0},
        loop={"steps": 30, "batch_size": 8, "cross_negatives": 0.0, "device_pairs": True},
        loss={"filter": {"sigma_cells": 0.5, "temperature": 14.0}},
        validation={"held_out": 0.0, "batches": 0},
    )
    weights = module.train(config, tmp_path / "run")
    loss = list(lines(tmp_path / "run", "loss").values())
    assert np.mean(loss[-5:]) < 0.95 * np.mean(loss[:5]), loss
    after = load_network(weights).state_dict()
    assert all(torch.equal(after[name], value) for name, value in network.state_dict().items())


def test_pairs_of_the_device_may_take_the_place_of_the_loaders(small_run, tmp_path, caplog):
    """A run that a GPU began goes on where there is none, with a word; and the other way round."""
    loop = {"steps": 1, "batch_size": 2}
    module.train(small_run(loop={**loop, "device_pairs": True}), tmp_path / "run")
    module.train(small_run(loop={**loop, "steps": 2}), tmp_path / "run", resume=True)
    assert "resumed with loop.device_pairs False instead of True" in caplog.text
    slow = {**loop, "steps": 3, "channels_last": False}
    module.train(small_run(loop=slow), tmp_path / "run", resume=True)
    assert "loop.channels_last False instead of True" in caplog.text
    assert sorted(lines(tmp_path / "run", "loss")) == [1, 2, 3]


@pytest.fixture
def ticking(monkeypatch):
    """A clock that goes on by 10 s each time someone looks at it."""
    now = [1000.0]

    def tick():
        now[0] += 10.0
        return now[0]

    monkeypatch.setattr(clock_module.time, "monotonic", tick)


def test_a_run_ends_by_itself_when_its_time_is_over(small_run, tmp_path, ticking):
    loop = {"steps": 1000, "max_minutes": 2.0, "checkpoint_every": 500, "device_pairs": True}
    config = small_run(loop=loop, optim={"schedule": "cosine", "warmup_steps": 0,
                                         "final_share": 0.0})  # fmt: skip
    weights = module.train(config, tmp_path / "run")
    steps = max(lines(tmp_path / "run", "loss"))
    assert 2 < steps < 12  # of 1000: the clock is looked at twice a step
    assert weights.exists() and read_card(weights).pairs == 4 * steps
    assert module.read_checkpoint(tmp_path / "run" / "last.pt")["step"] == steps
    assert "held_out_loss" in read_card(weights).figures  # validated at the end
    # The learning rate has fallen as if these were all the steps.
    rates = list(lines(tmp_path / "run", "rate").values())
    assert rates == sorted(rates, reverse=True) and rates[-1] < 0.1 * rates[0]

    # Resumed, it has no time left; with more of it, it goes on.
    module.train(config, tmp_path / "run", resume=True)
    assert max(lines(tmp_path / "run", "loss")) == steps
    longer = small_run(loop={**loop, "max_minutes": 3.0}, optim=asdict(config.optim))
    module.train(longer, tmp_path / "run", resume=True)
    assert steps < max(lines(tmp_path / "run", "loss")) < steps + 8


def test_the_clock_counts_from_before_the_run_was_resumed(ticking):
    assert RunClock(0.0).share(ProcessGroup()) == 0.0
    clock = RunClock(1.0)
    assert clock.seconds() == 10 and clock.share(ProcessGroup()) == pytest.approx(20 / 60)
    clock.before_s = 100.0
    assert clock.share(ProcessGroup()) == pytest.approx(130 / 60)


def test_the_rate_falls_with_the_steps_or_the_time_whichever_is_ahead(small_run):
    optim = small_run(optim={"schedule": "cosine", "warmup_steps": 0}).optim
    assert learning_rate(10, 101, optim, 0.5) == learning_rate(50, 101, optim)
    assert learning_rate(60, 101, optim, 0.5) == learning_rate(60, 101, optim)
    assert learning_rate(10, 101, optim, 1.7) == learning_rate(100, 101, optim)


def test_throughput_of_the_device_is_measured(small_run):
    rates = measure(small_run(loop={"device_pairs": True}), frozen=[3], steps=4)
    assert list(rates) == ["loading alone", "training, 3 stages frozen"]
    assert all(rate > 0 for rate in rates.values())


WITHOUT_PYAV = """
import sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("av", "got10k", "jinja2", "yaml", "openvino", "six"):
            raise ModuleNotFoundError(f"no {name} here", name=name)
sys.meta_path.insert(0, Blocked())
from siamtrack.cli import main
sys.exit(main(sys.argv[1:]))
"""


def test_a_machine_without_pyav_trains_on_a_packed_cache(small_run, packed, tmp_path):
    config = small_run(cache=str(packed), loop={"steps": 2, "device_pairs": True})
    command = [sys.executable, "-c", WITHOUT_PYAV, "train", str(tmp_path / "run"), *words(config)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert Path(done.stdout.strip()).exists()
