"""Whole runs: learning, resuming, two processes, errors; checkpoints; the initial network."""

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import zipfile
from dataclasses import asdict

import numpy as np
import pytest
import torch

from siamtrack.data.cache import CacheConfig, TrackFrames, build_cache
from siamtrack.errors import ConfigError, DatasetError, OutputError, TrainingError
from siamtrack.models.lite0 import Lite0Config, SiamTrackLite0
from siamtrack.models.siamfc import SiamFCConfig
from siamtrack.models.weights import load_network, read_card, save_network
from siamtrack.training import train as module
from siamtrack.training.config import NetworkChoice
from siamtrack.training.logs import read_log

TRAIN = "import json, sys; from pathlib import Path; from siamtrack.training.config import stored_config; from siamtrack.training.train import train; train(stored_config(json.loads(sys.argv[1])), Path(sys.argv[2]), resume=len(sys.argv) > 3)"  # noqa: E501


def losses(folder, kind="train"):
    return {r["step"]: r["loss"] for r in read_log(folder / "log.jsonl") if r["kind"] == kind}


def test_a_run_leaves_weights_a_card_logs_and_curves(small_run, tmp_path):
    weights = module.train(small_run(), tmp_path / "run")
    names = {p.name for p in weights.parent.iterdir()}
    assert names == {
        "config.json", "log.jsonl", "curves.png", "last.pt", "previous.pt", "best.pt",
        "siamtrack-lite0.safetensors", "siamtrack-lite0.json",
    }  # fmt: skip
    card = read_card(weights)
    assert card.pairs == 16 and card.training_data == ("clips",)
    assert "held_out_loss" in card.figures
    assert card.tracker == {} and "score is not calibrated" in card.notes
    network = load_network(weights)
    assert network.config.search_size_px == 64
    assert sorted(losses(weights.parent)) == [1, 2, 3, 4]
    assert list(losses(weights.parent, "validation")) == [4]


@pytest.fixture
def same_batch(monkeypatch):
    """Every step gets the pairs of the first."""
    original = module.StepSampler.__iter__

    def always_the_first(sampler):
        first = next(iter(original(sampler)))
        for _ in range(len(sampler)):
            yield first

    monkeypatch.setattr(module.StepSampler, "__iter__", always_the_first)


def test_the_network_overfits_eight_pairs(small_run, tmp_path, same_batch):
    """The loss falls below a tenth when the same eight pairs are shown again and again."""
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
    assert min(list(found.values())[-10:]) < found[1] / 10


def test_the_features_of_the_online_filter_learn_and_nothing_else_changes(
    small_run, tmp_path, same_batch
):
    torch.manual_seed(0)
    network = SiamTrackLite0(
        Lite0Config(exemplar_size_px=32, search_size_px=64, neck_channels=16, kernel_cells=2,
                    head_channels=16)
    )  # fmt: skip
    start = tmp_path / "start.safetensors"
    save_network(network, start, training_data=["nothing"], license="none")
    sizes = small_run().network.config
    config = small_run(
        network={"start": str(start), "config": {**sizes, "filter_channels": 8}},
        pairs={"memory": 3, "negative": 0.1, "rotation": 0.0},
        optim={"only_filter": True, "rate": 5e-3, "warmup_steps": 10, "ema_decay": 0.0},
        loop={"steps": 40, "batch_size": 8, "checkpoint_every": 1000, "cross_negatives": 0.0},
        loss={"filter": {"sigma_cells": 0.5, "temperature": 14.0}},
        validation={"held_out": 0.0, "batches": 0},
    )
    weights = module.train(config, tmp_path / "run")
    found = list(losses(tmp_path / "run").values())
    assert found[-1] < 0.85 * found[0], found
    before, after = network.state_dict(), load_network(weights).state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())
    own = {name for name in set(after) - set(before) if name.startswith("search_branch")}
    assert own and all(".filter_neck." in name for name in own)


def test_a_run_from_a_slimmed_network_keeps_its_width(small_run, tmp_path):
    sizes = small_run().network.config
    slim = SiamTrackLite0(Lite0Config(**sizes, inner_channels=(8, 24)))
    start = tmp_path / "slim.safetensors"
    save_network(slim, start, training_data=["nothing"], license="none")
    config = small_run(network={"start": str(start), "config": dict(sizes)}, loop={"steps": 1})
    assert load_network(module.train(config, tmp_path / "run")).config == slim.config

    # ImageNet weights are wider.
    config = small_run(
        network={"start": "imagenet", "config": {**sizes, "inner_channels": [8, 24]}}
    )
    with pytest.raises(ConfigError, match="siamtrack slim"):
        module.train(config, tmp_path / "wide")


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
def test_two_processes_train_as_one_with_the_joined_batch(small_run, tmp_path):
    """Same losses to 1e-3: batch norm is frozen, as its statistics are those of one process."""
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


@pytest.fixture
def begun(small_run, tmp_path):
    """Folder of a run of one step, of two pairs, on three of the eight clips' options."""
    module.train(small_run(**BEGUN), tmp_path / "run")
    return tmp_path / "run"


BEGUN = {"loop": {"steps": 1, "batch_size": 2}, "validation": {"held_out": 0.0, "batches": 0}}


OTHER_RUNS = [
    ({"optim": {"optimizer": "sgd"}}, "optim.optimizer 'sgd' instead of 'adamw'"),
    (
        {"optim": {"rate": 0.1}, "pairs": {"negative": 0.9}},
        "pairs.negative 0.9 instead of 0.08, optim.rate 0.1 instead of 0.001",
    ),
    ({"loss": {"logistic": 1.0}}, "loss.logistic 1.0 instead of None|loss.iou_aware None instead"),
    ({"loop": {**BEGUN["loop"], "seed": 99}}, "loop.seed 99 instead of 0"),
    ({"validation": {"held_out": 0.3}}, "validation.held_out 0.3 instead of 0.0"),
]


def test_resuming_another_run_is_refused_with_all_that_differs(small_run, begun):
    for changes, says in OTHER_RUNS:
        with pytest.raises(TrainingError, match=rf"cannot be resumed with .*({says})"):
            module.train(small_run(**{**BEGUN, **changes}), begun, resume=True)


def test_resuming_with_other_crops_is_refused_and_with_a_moved_cache_is_not(
    small_run, begun, clips_cache, tmp_path, caplog
):
    moved = shutil.copytree(clips_cache, tmp_path / "moved")
    longer = {**BEGUN, "loop": {**BEGUN["loop"], "steps": 2}}
    module.train(small_run(cache=str(moved), **longer), begun, resume=True)
    assert "is resumed with" not in caplog.text
    other = build_cache(other_source(), tmp_path / "other", CacheConfig(), "clips").folder
    with pytest.raises(TrainingError, match=r"a cache .*other' with other crops than"):
        module.train(small_run(cache=str(other), **longer), begun, resume=True)


def other_source():
    image = np.random.default_rng(0).integers(0, 255, (100, 100, 3), dtype=np.uint8)
    yield TrackFrames("clip", "clips", "", "", [(0, image, np.array([30.0, 30, 24, 24]))])


def test_pairs_are_counted_over_batches_of_different_size(small_run, begun, caplog):
    loop = {"steps": 3, "batch_size": 4}
    weights = module.train(small_run(**{**BEGUN, "loop": loop}), begun, resume=True)
    assert read_card(weights).pairs == 1 * 2 + 2 * 4
    assert "is resumed with loop.batch_size 4 instead of 2" in caplog.text
    again = module.train(small_run(**{**BEGUN, "loop": loop}), begun, resume=True)  # nothing to do
    assert read_card(again).pairs == 10


def test_nothing_is_called_held_out_when_nothing_was(begun, small_run, tmp_path, caplog):
    assert read_card(begun / "siamtrack-lite0.safetensors").figures == {}
    assert not (begun / "best.pt").exists()
    few = {"validation": {"held_out": 0.02, "batches": 1}, "loop": BEGUN["loop"]}
    weights = module.train(small_run(**few), tmp_path / "few")
    assert read_card(weights).figures == {} and not losses(tmp_path / "few", "validation")
    assert "0.02 of so few clips is none" in caplog.text


def test_the_card_of_fine_tuned_weights_hands_on_what_it_began_with(small_run, tmp_path, caplog):
    start = tmp_path / "start.safetensors"
    config = small_run(**BEGUN)
    save_network(
        module.make_network(config.network), start, training_data=["zoo", "clips"],
        license="CC0-1.0", pairs=1000, figures={"dev_auc": 0.5}, tracker={"score_gain": 0.5},
    )  # fmt: skip
    network = {"start": str(start), "config": {**config.network.config, "search_size_px": 96}}
    weights = module.train(small_run(**BEGUN, network=network), tmp_path / "run")
    card = read_card(weights)
    assert card.tracker == {"score_gain": 0.5} and card.training_data == ("zoo", "clips")
    assert card.pairs == 2 and card.figures == {} and card.license == "not stated"
    assert "search crop 64 px; here 96 px" in card.notes
    assert "options and score calibration are those of start.safetensors" in card.notes
    assert "the score calibration of start.safetensors; siamtrack calibrate fits" in caplog.text
    assert "search crops of 64 px, this run trains and tracks at 96 px" in caplog.text
    start.unlink()
    longer = {**BEGUN, "loop": {**BEGUN["loop"], "steps": 2}}
    module.train(small_run(**longer, network=network), tmp_path / "run", resume=True)
    assert read_card(weights).tracker == {"score_gain": 0.5}


def test_resuming_without_a_checkpoint_is_refused(small_run, tmp_path):
    with pytest.raises(TrainingError, match="start the run without --resume"):
        module.train(small_run(), tmp_path / "run", resume=True)


def test_missing_data_devices_losses_and_weights_are_refused(small_run, tmp_path):
    with pytest.raises(DatasetError, match="not a finished crop cache"):
        module.train(small_run(cache=str(tmp_path)), tmp_path / "a")
    with pytest.raises(ConfigError, match="trains on cuda only"):
        module.train(small_run(loop={"precision": "float16"}), tmp_path / "b")
    with pytest.raises(ConfigError, match="unknown loss"):
        module.train(small_run(loss={"tripled": 1.0}), tmp_path / "c")
    imagenet = {"architecture": "siamfc", "config": {}, "start": "imagenet"}
    with pytest.raises(ConfigError, match="no such weights for siamfc"):
        module.train(small_run(network=imagenet), tmp_path / "d")


def test_a_checkpoint_is_read_back(tmp_path):
    path = tmp_path / "run" / "last.pt"
    module.write_checkpoint(path, {"step": 3, "weights": {"a": torch.arange(4.0)}})
    state = module.read_checkpoint(path)
    assert state["step"] == 3 and state["weights"]["a"].tolist() == [0, 1, 2, 3]
    assert [p.name for p in path.parent.iterdir()] == ["last.pt"]


def test_a_full_disk_keeps_the_previous_checkpoint(tmp_path, monkeypatch):
    path = tmp_path / "last.pt"
    module.write_checkpoint(path, {"step": 1})

    def fill_up(state, stream):
        stream.write(b"half of it")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(module.torch, "save", fill_up)
    with pytest.raises(OutputError, match=r"No space left.*before it is intact"):
        module.write_checkpoint(path, {"step": 2})
    monkeypatch.undo()
    assert module.read_checkpoint(path)["step"] == 1
    assert [p.name for p in tmp_path.iterdir()] == ["last.pt"]


def test_files_that_are_no_checkpoints_are_refused(tmp_path):
    with pytest.raises(TrainingError, match="there is no checkpoint"):
        module.read_checkpoint(tmp_path / "last.pt")
    damaged = tmp_path / "damaged.pt"
    module.write_checkpoint(damaged, {"step": 1, "x": torch.zeros(1000)})
    damaged.write_bytes(damaged.read_bytes()[:500])
    with pytest.raises(TrainingError, match="damaged"):
        module.read_checkpoint(damaged)
    other = tmp_path / "other.pt"
    torch.save({"state_dict": {}}, other)
    with pytest.raises(TrainingError, match="not a checkpoint of this version"):
        module.read_checkpoint(other)


def test_every_flipped_bit_of_a_tensor_is_noticed(tmp_path):
    path = tmp_path / "last.pt"
    module.write_checkpoint(path, {"w": torch.randn(64, 64)})
    whole = path.read_bytes()
    for share in (0.05, 0.2, 0.5, 0.8, 0.95):
        damaged = bytearray(whole)
        damaged[int(len(whole) * share)] ^= 0x40
        path.write_bytes(damaged)
        with pytest.raises(TrainingError, match=r"last.pt is damaged \(.+\); use an older one"):
            module.read_checkpoint(path)


@pytest.mark.parametrize("data", [b"", b"hello", b"PK\x03\x04", b"\x80\x02garbage"])
def test_other_files_named_like_a_checkpoint_are_damaged(tmp_path, data):
    (tmp_path / "last.pt").write_bytes(data)
    with pytest.raises(TrainingError, match="is damaged"):
        module.read_checkpoint(tmp_path / "last.pt")


def test_a_checkpoint_that_would_unpack_to_more_than_its_file_is_not_unpacked(
    tmp_path, monkeypatch
):
    path = tmp_path / "last.pt"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data/0", bytes(1 << 20))
    monkeypatch.setattr(zipfile.ZipFile, "testzip", None)
    monkeypatch.setattr(torch, "load", None)
    with pytest.raises(TrainingError, match="it is compressed"):
        module.read_checkpoint(path)


def test_a_damaged_checkpoint_is_replaced_by_the_one_before(small_run, tmp_path, caplog):
    folder = tmp_path / "run"
    module.train(small_run(**{**BEGUN, "loop": {"steps": 4, "batch_size": 2}}), folder)
    damaged = bytearray((folder / "last.pt").read_bytes())
    damaged[len(damaged) // 2] ^= 1
    (folder / "last.pt").write_bytes(damaged)
    longer = small_run(**{**BEGUN, "loop": {"steps": 5, "batch_size": 2}})
    module.train(longer, folder, resume=True)
    assert "is damaged" in caplog.text and "going on from previous.pt, step 2" in caplog.text
    assert module.read_checkpoint(folder / "last.pt")["step"] == 5
    assert module.read_checkpoint(folder / "previous.pt")["step"] in (2, 4)
    # A kill between two renames leaves the one before.
    (folder / "last.pt").unlink()
    with pytest.raises(OutputError, match="holds a run"):
        module.train(longer, folder)
    module.train(longer, folder, resume=True)
    assert module.read_checkpoint(folder / "last.pt")["step"] == 5


def test_a_checkpoint_that_lacks_a_part_is_refused(small_run, begun):
    whole = module.read_checkpoint(begun / "last.pt")
    for key in ("config", "network", "optimiser", "step"):
        lacking = {name: value for name, value in whole.items() if name != key}
        module.write_checkpoint(begun / "last.pt", lacking)
        with pytest.raises(TrainingError, match="start in another folder"):
            module.train(small_run(**BEGUN), begun, resume=True)


class Payload:
    def __reduce__(self):
        return (print, ("this must not run",))


def test_code_in_a_checkpoint_is_not_run(tmp_path, capsys):
    path = tmp_path / "last.pt"
    torch.save({"format": module.FORMAT, "step": Payload()}, path)
    with pytest.raises(TrainingError, match="damaged"):
        module.read_checkpoint(path)
    assert capsys.readouterr().out == ""


def test_lite0_is_fine_tuned_at_another_search_size():
    choice = NetworkChoice(config={"search_size_px": 192}, start="siamtrack-lite0")
    network, initial = module.make_network(choice), load_network("siamtrack-lite0")
    assert network.config.search_size_px == 192
    for name, value in initial.state_dict().items():
        assert torch.equal(network.state_dict()[name], value)


def test_siamfc_is_fine_tuned_at_another_exemplar_size():
    choice = NetworkChoice("siamfc", {"exemplar_size_px": 111, "search_size_px": 239}, "siamfc")
    network, initial = module.make_network(choice), load_network("siamfc")
    for name, value in initial.state_dict().items():
        assert torch.equal(network.state_dict()[name], value)


def test_pixelwise_weights_are_resampled_for_a_smaller_exemplar():
    big = SiamTrackLite0(Lite0Config(neck_channels=8, head_channels=4))
    row, column = np.mgrid[0:1:8j, 0:1:8j]
    weight = big.fuse_pixelwise[0].weight
    with torch.no_grad():
        for k in range(4):
            plane = torch.from_numpy(1.0 + k * row - 2.0 * column).float()
            weight[k, :64, 0, 0] = plane.flatten()
    config = Lite0Config(exemplar_size_px=96, kernel_cells=3, neck_channels=8, head_channels=4)
    state = big.resized_state_dict(config)
    row, column = np.mgrid[0:1:6j, 0:1:6j]
    for k in range(4):
        expected = (1.0 + k * row - 2.0 * column) * 64 / 36
        found = state["fuse_pixelwise.0.weight"][k, :36, 0, 0].reshape(6, 6).numpy()
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    assert torch.equal(state["fuse_pixelwise.0.weight"][:, 36:], weight[:, 64:])
    small = SiamTrackLite0(config)
    small.load_state_dict(state)
    assert big.fuse_pixelwise[0].weight.shape[1] == 72


@pytest.mark.parametrize(
    ("config", "word"),
    [({"neck_channels": 64}, "neck_channels"), ({"head_channels": 32, "kernel_cells": 2}, "head_")],
)
def test_weights_of_another_network_are_refused(config, word):
    with pytest.raises(ConfigError, match=rf"'siamtrack-lite0': weights of .* differs in {word}"):
        module.make_network(NetworkChoice(config=config, start="siamtrack-lite0"))


def test_weights_of_another_architecture_are_refused():
    with pytest.raises(ConfigError, match=r"weights of siamfc .* do not fit Lite0Config"):
        module.make_network(NetworkChoice(start="siamfc"))
    with pytest.raises(ConfigError, match="differs in its class"):
        load_network("siamfc").resized_state_dict(_OtherConfig())


class _OtherConfig(SiamFCConfig):
    """The same fields in another class."""
