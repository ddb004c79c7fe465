"""`siamtrack calibrate` and `absence` on clips whose truth is known, with the bundled weights."""

import json
import shutil

import numpy as np
import pytest

from siamtrack.api import DEFAULT_WEIGHTS
from siamtrack.cli import main
from siamtrack.data.synthetic import NoiseTextures, SceneConfig, make_data_set, small_scene
from siamtrack.models.weights import find_weights, read_card
from siamtrack.video.video_writer import VideoSink


@pytest.fixture
def clips(tmp_path):
    """Four clips; in half of them the truth names another place than where the thing is."""
    folder = tmp_path / "clips"
    for number, offset in enumerate((0.0, 90.0, 0.0, 90.0)):
        frames = small_scene(seed=number, frame_count=12)
        with VideoSink(folder / f"clip{number}.mp4", 30, (160, 120)) as sink:
            for frame in frames:
                sink.write(frame.image_bgr)
        boxes = np.array([f.box_xywh for f in frames])
        boxes[1:, 0] = np.abs(boxes[1:, 0] - offset)
        np.savetxt(folder / f"clip{number}.txt", boxes, delimiter=",")
    return folder


def calibrate(*arguments):
    return main(["calibrate", *map(str, arguments)])


@pytest.mark.slow
def test_the_card_takes_the_fitted_curve(clips, tmp_path, capsys):
    weights = tmp_path / "mine.safetensors"
    bundled = find_weights(DEFAULT_WEIGHTS)
    shutil.copy(bundled, weights)
    shutil.copy(bundled.with_suffix(".json"), weights.with_suffix(".json"))
    before = read_card(weights)
    assert calibrate(weights, f"folder:{clips}", "--plot", tmp_path / "plot.png") == 0
    assert capsys.readouterr().out.count("expected calibration error") == 2
    assert (tmp_path / "plot.png").stat().st_size > 1000
    after = read_card(weights)
    fitted = {"filter_score_gain", "filter_score_offset", "filter_score_margin"}
    assert after.tracker["filter_score_gain"] > 0 and fitted <= set(after.tracker)
    assert {k: v for k, v in after.tracker.items() if k not in fitted} == {
        k: v for k, v in before.tracker.items() if k not in fitted
    }
    assert after.sha256 == before.sha256


@pytest.mark.slow
def test_checking_judges_the_present_score_and_changes_nothing(clips, tmp_path, capsys):
    weights = tmp_path / "mine.safetensors"
    bundled = find_weights(DEFAULT_WEIGHTS)
    shutil.copy(bundled, weights)
    card = weights.with_suffix(".json")
    printed = {}
    for gain in (0.01, 1e-6):  # the second one hardly looks at the peak and says 1/2 or so
        text = json.loads(bundled.with_suffix(".json").read_text())
        text["tracker"] |= {"filter_score_gain": gain, "filter_score_margin": 0.0}
        card.write_text(json.dumps(text))
        before = card.read_bytes()
        plot = tmp_path / f"{gain}.png"
        assert calibrate(weights, f"folder:{clips}", "--check", "--plot", plot) == 0
        assert card.read_bytes() == before
        assert plot.stat().st_size > 1000
        printed[gain] = capsys.readouterr().out
    assert all(text.startswith("as it is: expected calibration error") for text in printed.values())
    assert printed[0.01] != printed[1e-6]


def test_a_data_set_that_is_not_there_is_one_line_and_exit_3(tmp_path, capsys):
    assert calibrate(DEFAULT_WEIGHTS, f"folder:{tmp_path / 'none'}") == 3
    error = capsys.readouterr().err
    assert error.startswith("siamtrack: error: ") and error.count("\n") == 1


@pytest.mark.slow
def test_absence_reports_on_each_data_set_and_on_all(tmp_path, capsys):
    config = SceneConfig(
        frame_wh=(160, 120), frame_count=70, target_size=(0.3, 0.4), speed=0.2, occlusions=0,
        distractors=0, cuts=1, cut_s=0.8,
    )  # fmt: skip
    make_data_set(tmp_path / "clips", NoiseTextures(), config, clips=1)
    command = ["absence", "siamtrack-lite0", f"folder:{tmp_path / 'clips'}"]
    assert main(command) == 0
    printed = capsys.readouterr().out
    assert printed.count("of absences") == 2 and " of 1 (" in printed
    assert main([*command, "--set", "x"]) == 2
    assert "'x' is not option=value" in capsys.readouterr().err
