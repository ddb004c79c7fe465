"""The training commands: what they print, and how they refuse bad input."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from siamtrack.cli import main
from siamtrack.training.config import load_config

ROOT = Path(__file__).resolve().parents[2]
TOOLS = ROOT / "tools"
SMALL = [
    "network.start=random", "network.config.exemplar_size_px=32", "loop.device=cpu",
    "network.config.search_size_px=64", "network.config.kernel_cells=2",
    "network.config.neck_channels=8", "network.config.head_channels=8", "optim.frozen_stages=0",
    "loop.batch_size=2", "loop.workers=0", "loop.precision=float32", "validation.held_out=0.0",
    "validation.batches=0", "loop.steps=1",
]  # fmt: skip


def settings(cache, *more):
    values = [*SMALL, f"cache={cache}", *more]
    return [word for value in values for word in ("--set", value)]


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    root = tmp_path_factory.mktemp("data") / "clips"
    for clip in ("one", "two"):
        (root / clip).mkdir(parents=True)
        rows = []
        for number in range(3):
            picture = np.full((90, 90, 3), 40, np.uint8)
            x = 20 + 4 * number
            picture[30:50, x : x + 20] = (200, 90, 160)
            cv2.imwrite(str(root / clip / f"{number}.png"), picture)
            rows.append(f"{x},30,20,20")
        (root / f"{clip}.txt").write_text("\n".join(rows) + "\n")
    return root


@pytest.fixture(scope="module")
def cache(clips, tmp_path_factory):
    out = tmp_path_factory.mktemp("cache") / "cache"
    assert main(["prepare", str(out), f"folder:{clips}"]) == 0
    return out


def one_line(capsys):
    """The only line on standard error apart from progress; nothing is on standard output."""
    printed = capsys.readouterr()
    lines = [line for line in printed.err.splitlines() if "target" not in line or "error" in line]
    assert printed.out == ""
    assert len(lines) == 1, printed.err
    assert lines[0].startswith("siamtrack: error: ")
    return lines[0]


def test_training_from_clips_to_weights(clips, tmp_path, capsys):
    out, run, picture = tmp_path / "cache", tmp_path / "run", tmp_path / "pairs.png"
    assert main(["prepare", str(out), f"folder:{clips}"]) == 0
    assert "2 targets, 6 pictures" in capsys.readouterr().out
    assert main(["show-pairs", str(picture), *settings(out), "--count", "9"]) == 0
    assert cv2.imread(str(picture)).shape == (2 * (64 + 22), 8 * (32 + 64 + 4), 3)
    assert main(["train", str(run), *settings(out)]) == 0
    weights = Path(capsys.readouterr().out.strip())
    assert weights.parent == run and weights.suffix == ".safetensors" and weights.is_file()
    assert main(["train", str(run), *settings(out, "loop.steps=2"), "--resume"]) == 0


def test_a_packed_cache_is_looked_at_and_trained_on(cache, tmp_path, capsys):
    packed, run, picture = tmp_path / "six.crops", tmp_path / "run", tmp_path / "pairs.png"
    assert main(["pack-cache", str(packed), "--set", f"cache={cache}", "--megabytes", "1"]) == 0
    printed = capsys.readouterr()
    assert "2 of 2 targets, 6 of 6 pictures, 0.0 MB" in printed.out
    assert "folder: 2 targets, 6 pictures" in printed.err
    device = [*settings(packed), "--set", "loop.device_pairs=true"]
    assert main(["show-pairs", str(picture), *device, "--count", "9"]) == 0
    assert cv2.imread(str(picture)).shape == (2 * (64 + 22), 8 * (32 + 64 + 4), 3)
    assert main(["train", str(run), *device]) == 0
    assert Path(capsys.readouterr().out.strip()).is_file()


def test_pack_cache_refuses_in_one_line(cache, tmp_path, capsys):
    out, of = str(tmp_path / "p"), ["--set", f"cache={cache}"]
    assert main(["pack-cache", out, *of, "--megabytes", "-1"]) == 2
    assert "-1.0 MB is nothing" in one_line(capsys)
    assert main(["pack-cache", str(cache), *of]) == 3
    assert "exists; remove it or give another name" in one_line(capsys)
    (tmp_path / "text").write_text("no cache")
    assert main(["train", str(tmp_path / "run"), *settings(tmp_path / "text")]) == 3
    assert "text is not a packed crop cache, or is damaged" in one_line(capsys)


@pytest.mark.parametrize(
    ("more", "code", "says"),
    [
        (["optim.rato=1"], 2, "did you mean 'rate'"),
        (["loop.steps=0"], 2, "loop.steps is 0"),
        (["network.architecture=siamtrack-lite1"], 2, "did you mean 'siamtrack-lite0'"),
        (["loop.device=gpu"], 2, "gpu"),
        (["pairs.other_weight=0.0"], 3, "left to draw from"),
        (["network.start=no_such_weights"], 3, "no_such_weights"),
        (["validation.sequences=folder:/no/such/folder"], 3, "/no/such/folder"),
    ],
)
def test_train_refuses_in_one_line(cache, tmp_path, capsys, more, code, says):
    assert main(["train", str(tmp_path / "run"), *settings(cache, *more)]) == code
    assert says in one_line(capsys)


def test_names_of_sets_that_the_cache_lacks_are_left_out_with_a_note(cache, tmp_path, capsys):
    names = [f"pairs.set_weights.set{n}=2.0" for n in range(7)]
    assert main(["train", str(tmp_path / "run"), *settings(cache, *names)]) == 0
    printed = capsys.readouterr().err
    assert printed.count("names set0, set1, set2, set3, set4 and 2 more sets") == 1
    assert "the cache holds folder, the rest is left out" in printed


def test_train_refuses_folders_that_do_not_fit(cache, tmp_path, capsys):
    run = tmp_path / "run"
    assert main(["train", str(run), *settings(tmp_path)]) == 3
    assert "make it with siamtrack prepare" in one_line(capsys)
    assert main(["train", str(run), *settings(cache), "--resume"]) == 3
    assert "without --resume" in one_line(capsys)
    assert main(["train", str(run), "--config", str(tmp_path / "none.toml")]) == 2
    assert "none.toml" in one_line(capsys)


@pytest.mark.parametrize(
    ("specs", "code", "says"),
    [
        (["folder:/no/such/folder"], 3, "/no/such/folder"),
        (["folders:clips"], 2, "did you mean 'folder'"),
        (["clips"], 2, "is not KIND:ROOT"),
        (["folder:clips?sort=1"], 2, "unknown option of folder 'sort'"),
    ],
)
def test_prepare_refuses_in_one_line(tmp_path, capsys, specs, code, says):
    assert main(["prepare", str(tmp_path / "cache"), *specs]) == code
    assert says in one_line(capsys)
    assert not (tmp_path / "cache").exists()


def test_prepare_refuses_a_cache_of_something_else(cache, clips, capsys):
    assert main(["prepare", str(cache), f"folder:{clips}/one"]) == 3
    assert "made from other data sets or settings" in one_line(capsys)
    assert main(["prepare", str(cache), f"folder:{clips}", "--max-frames", "2"]) == 3
    assert "max_frames=150" in one_line(capsys)


def test_show_pairs_and_compare_losses_refuse_in_one_line(cache, clips, tmp_path, capsys):
    picture, judged = str(tmp_path / "p.png"), f"folder:{clips}"
    assert main(["show-pairs", picture, *settings(cache), "--count", "0"]) == 2
    assert "cannot be drawn" in one_line(capsys)
    taken = tmp_path / "file"
    taken.write_text("")
    assert main(["show-pairs", str(taken / "p.png"), *settings(cache)]) == 3
    assert "cannot write" in one_line(capsys)
    out = str(tmp_path / "out")
    assert main(["compare-losses", out, judged, *settings(cache), "--only", "triplets"]) == 2
    assert "unknown variant 'triplets'" in one_line(capsys)
    assert main(["compare-losses", out, "folder:/no/such", *settings(cache)]) == 3
    assert "/no/such" in one_line(capsys)


@pytest.mark.parametrize("path", sorted((TOOLS / "configs").glob("*.toml")), ids=lambda p: p.stem)
def test_the_configurations_that_come_along_are_valid(path):
    from siamtrack.losses.combined import build_loss
    from siamtrack.models.weights import build_network
    from siamtrack.training.train import default_loss

    config = load_config(path)
    build_loss(config.loss or default_loss(config.network.architecture))
    build_network(config.network.architecture, config.network.config)


def test_slim_prints_the_path_of_weights_that_can_be_tracked_with(cache, tmp_path, capsys):
    assert main(["train", str(tmp_path / "run"), *settings(cache)]) == 0
    start = capsys.readouterr().out.strip()
    out = tmp_path / "slim.safetensors"
    slim = ["slim", str(out), "--weights", start, *settings(cache)]
    assert main([*slim, "--channels", "16,40"]) == 0
    assert capsys.readouterr().out.strip() == str(out)
    assert main(["info", "--weights", str(out)]) == 0
    assert "[16, 40]" in capsys.readouterr().out

    # Weights that are there are not written over; the numbers must be numbers, and fewer.
    assert main([*slim, "--channels", "16,40"]) == 3
    assert "give --resume to go on" in capsys.readouterr().err
    assert main([*slim, "--channels", "16,wide"]) == 2
    assert "no list of whole numbers" in capsys.readouterr().err
    slim[1] = str(tmp_path / "other.safetensors")
    assert main([*slim, "--channels", "64"]) == 2
    assert "inner channels [64]" in capsys.readouterr().err
