"""Frames, sequences and data sets: what every reader hands out."""

from __future__ import annotations

import pickle
import struct
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from siamtrack.data.datasets import KINDS, open_dataset
from siamtrack.data.sequence import Dataset, VideoSequence
from siamtrack.errors import ConfigError, DatasetError, Problem, dataset_error
from siamtrack.utils.images import list_images
from siamtrack.video.decode import ImageFrames, VideoFile

Writer = Callable[..., Path]


class Greys:
    """Frames that hold their number."""

    def __init__(self, count: int) -> None:
        self.count = count

    def __len__(self) -> int:
        return self.count

    def read(self, index: int) -> np.ndarray:
        return np.full((4, 4, 3), index, np.uint8)

    def iterate(self, indices):
        return map(self.read, indices)

    def path(self, index: int) -> Path:
        return Path("greys")

    def key(self, index: int) -> str:
        return f"greys#{index}"


def a_sequence(number: int = 0, count: int = 3) -> VideoSequence:
    if number == 7:
        raise DatasetError("sequence 7 is broken")
    boxes = np.tile([1.0, 2.0, 3.0, 4.0], (count, 1))
    return VideoSequence(f"s{number}", "video", Greys(count), boxes)


def a_dataset(names: tuple[str, ...] = ("s0", "s1")) -> Dataset:
    return Dataset(spec="x:y", kind="x", root=Path("y"), names=names, load=a_sequence)


def grey_of(picture: np.ndarray) -> float:
    return float(picture.mean())


# Sequences


def test_absent_and_hidden_frames_have_nan_boxes_and_are_not_visible() -> None:
    boxes = [[1, 2, 3, 4], [np.nan] * 4, [5, 6, 7, 8], [np.nan, 2, 3, 4]]
    sequence = VideoSequence("a", "video", Greys(4), np.array(boxes), np.array([1, 1, 0, 1], bool))
    assert sequence.visible.tolist() == [True, False, False, False]
    assert np.isnan(sequence.boxes[1:]).all()
    assert sequence.boxes[0].tolist() == [1, 2, 3, 4]
    assert sequence.boxes.dtype == np.float64
    assert sequence.degenerate == ()


@pytest.mark.parametrize("sentinel", [(0, 0, 0, 0), (-1, -1, -1, -1), (1, 1, 0, 0), (2, 2, -1, -1)])
def test_boxes_without_any_side_mean_absent(sentinel: tuple[int, ...]) -> None:
    sequence = VideoSequence("a", "video", Greys(2), np.array([[1, 2, 3, 4], sentinel], float))
    assert sequence.visible.tolist() == [True, False]
    assert sequence.degenerate == ()


def test_boxes_with_one_side_are_noted_as_mistakes() -> None:
    boxes = np.array([[1, 2, 3, 4], [371, 0, 150, 0], [1125, 730, -1, 10]], float)
    sequence = VideoSequence("a", "video", Greys(3), boxes)
    assert sequence.visible.tolist() == [True, False, False]
    assert sequence.degenerate == (1, 2)


def test_a_sequence_keeps_its_own_boxes() -> None:
    boxes = np.ones((2, 4))
    sequence = VideoSequence("a", "video", Greys(2), boxes)
    boxes[:] = 99
    assert (sequence.boxes == 1).all()
    with pytest.raises(ValueError, match="read-only"):
        sequence.boxes[0, 0] = 5


@pytest.mark.parametrize(("boxes", "visible"), [((2, 4), None), ((3, 5), None), ((3, 4), (2,))])
def test_numbers_of_frames_and_boxes_must_agree(boxes, visible) -> None:
    flags = None if visible is None else np.ones(visible, bool)
    with pytest.raises(DatasetError, match="for 3 frames") as caught:
        VideoSequence("a", "video", Greys(3), np.ones(boxes), flags, meta={"annotation": "a.txt"})
    assert [(p.kind, p.path) for p in caught.value.problems] == [("count-differs", Path("a.txt"))]


def test_frames_can_be_had_singly_in_turn_and_picked() -> None:
    sequence = a_sequence(count=5)
    assert len(sequence) == 5
    assert sequence.read(3)[0, 0, 0] == 3
    assert [int(f[0, 0, 0]) for f in sequence.iter_frames()] == [0, 1, 2, 3, 4]
    assert [int(f[0, 0, 0]) for f in sequence.iter_frames([4, 1])] == [4, 1]
    assert sequence.image_key(2) == "greys#2"


# Data sets


def test_a_dataset_is_indexed_by_number_and_name() -> None:
    dataset = a_dataset()
    assert len(dataset) == 2
    assert dataset[1].name == dataset["s1"].name == dataset[-1].name == "s1"
    assert [s.name for s in dataset] == ["s0", "s1"]
    with pytest.raises(IndexError, match="sequence 2 of 2"):
        dataset[2]


def test_an_unknown_sequence_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match="did you mean 's0'"):
        a_dataset()["seq0"]
    with pytest.raises(ConfigError, match="no sequence 'qqq' among its 2"):
        a_dataset()["qqq"]


def test_two_sequences_of_one_name_are_refused() -> None:
    with pytest.raises(DatasetError, match="two sequences called 'a'"):
        a_dataset(("a", "b", "a"))


def test_broken_sequences_stop_iteration_and_are_left_out_when_asked(caplog) -> None:
    dataset = a_dataset(tuple(f"s{n}" for n in range(9)))
    with pytest.raises(DatasetError, match="sequence 7 is broken"):
        list(dataset)
    assert [s.name for s in dataset.usable()] == [f"s{n}" for n in range(9) if n != 7]
    assert "sequence s7 is left out: sequence 7 is broken" in caplog.text


def test_a_failure_spells_out_the_first_problems_and_carries_all() -> None:
    problems = [Problem(Path(f"{n}.jpg"), "missing-picture", "does not exist") for n in range(5)]
    error = dataset_error("set", problems)
    assert str(error).startswith("set cannot be used: 0.jpg: does not exist; 1.jpg")
    assert "and 2 more" in str(error)
    assert error.problems == tuple(problems)
    assert pickle.loads(pickle.dumps(error)).problems == tuple(problems)
    assert str(problems[0]) == "0.jpg: does not exist [missing-picture]"


# Pictures


def test_picture_frames(tmp_path: Path, write_pictures: Callable[..., None]) -> None:
    write_pictures(tmp_path, 4)
    frames = ImageFrames(tmp_path, list_images(tmp_path))
    assert len(frames) == 4
    assert grey_of(frames.read(3)) == pytest.approx(30, abs=1)
    assert [grey_of(f) for f in frames.iterate([2, 0])] == pytest.approx([20, 0], abs=1)
    assert frames.key(0) == str(tmp_path / "00000001.jpg")
    for number in (4, -1):
        with pytest.raises(DatasetError, match=f"no frame {number} in .*; it has 4"):
            frames.read(number)


# Clips


@pytest.mark.parametrize(
    ("name", "codec"),
    [
        ("a.mp4", "libx264"),
        ("a.mkv", "libx264"),
        ("a.ts", "libx264"),
        ("a.avi", "libx264"),
        ("a.avi", "mpeg4"),
        ("a.mpg", "mpeg2video"),
        ("a.webm", "libvpx"),
    ],
)
def test_a_frame_of_a_clip_is_the_same_however_it_is_reached(
    tmp_path: Path, write_clip: Writer, name: str, codec: str
) -> None:
    frames = VideoFile(write_clip(tmp_path / name, 20, codec=codec))
    expected = [20 + 10 * n for n in range(20)]
    assert len(frames) == 20
    assert frames.fps == pytest.approx(25)
    in_turn = list(frames.iterate(range(20)))
    assert [grey_of(f) for f in in_turn] == pytest.approx(expected, abs=4.5)
    picked = [19, 3, 3, 4, 11, 0, 12]
    for index, frame in zip(picked, frames.iterate(picked), strict=True):
        assert (frame == in_turn[index]).all()
    assert (frames.read(17) == in_turn[17]).all()
    assert frames.key(4) == f"{tmp_path / name}#4"
    assert frames.path(4) == tmp_path / name


def test_a_jump_that_leads_too_far_is_made_good(
    tmp_path: Path, write_clip: Writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    frames = VideoFile(write_clip(tmp_path / "a.mp4", 20))
    expected = list(frames.iterate(range(20)))
    assert len(frames._index.starts) > 2
    monkeypatch.setattr(frames, "_key_frame_before", lambda index: int(frames._index.starts[-1]))
    assert (frames.read(9) == expected[9]).all()


def test_a_clip_matches_opencv(tmp_path: Path, write_clip: Writer) -> None:
    path = write_clip(tmp_path / "a.mp4", 8)
    capture = cv2.VideoCapture(str(path))
    for frame in VideoFile(path).iterate(range(8)):
        assert (frame == capture.read()[1]).all()


def test_a_clip_held_sideways_comes_out_upright_as_opencv_shows_it(
    tmp_path: Path, write_clip: Writer
) -> None:
    path = write_clip(tmp_path / "a.mp4", 3, ramp=True)
    data = bytearray(path.read_bytes())
    matrix = data.index(b"tkhd") + 4 + 40
    turned = (0, 1 << 16, 0, -(1 << 16), 0, 0, 48 << 16, 0, 1 << 30)
    data[matrix : matrix + 36] = struct.pack(">9i", *turned)
    path.write_bytes(data)
    shown = cv2.VideoCapture(str(path)).read()[1]
    assert shown.shape == (64, 48, 3)
    assert abs(float(shown[0].mean()) - float(shown[-1].mean())) > 100
    assert (VideoFile(path).read(0) == shown).all()


def test_frames_of_a_clip_are_the_callers_own(tmp_path: Path, write_clip: Writer) -> None:
    frames = VideoFile(write_clip(tmp_path / "a.mp4", 3))
    first, again = frames.iterate([1, 1])
    first[:] = 0
    assert grey_of(again) == pytest.approx(30, abs=3)


def test_a_clip_can_be_pickled(tmp_path: Path, write_clip: Writer) -> None:
    frames = VideoFile(write_clip(tmp_path / "a.mp4", 9))
    assert len(frames) == 9
    assert (pickle.loads(pickle.dumps(frames)).read(5) == frames.read(5)).all()


def test_a_frame_beyond_the_clip_is_refused(tmp_path: Path, write_clip: Writer) -> None:
    frames = VideoFile(write_clip(tmp_path / "a.mp4", 3))
    for number in (3, -1):
        with pytest.raises(DatasetError, match=f"no frame {number} in .*; it has 3"):
            frames.read(number)


def test_clips_that_cannot_be_decoded_are_named(tmp_path: Path, write_clip: Writer) -> None:
    with pytest.raises(DatasetError, match=r"gone\.mp4 cannot be decoded: No such file"):
        len(VideoFile(tmp_path / "gone.mp4"))
    (tmp_path / "text.mp4").write_text("no video")
    with pytest.raises(DatasetError, match=r"text\.mp4 cannot be decoded"):
        VideoFile(tmp_path / "text.mp4").read(0)


def test_a_clip_without_video_is_refused(tmp_path: Path) -> None:
    import av

    with av.open(str(tmp_path / "a.mp4"), "w") as container:
        stream = container.add_stream("aac", rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
        frame.sample_rate = 8000
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    with pytest.raises(DatasetError, match="holds no video"):
        len(VideoFile(tmp_path / "a.mp4"))


def test_a_clip_with_a_damaged_stretch_says_which_frame(tmp_path: Path, write_clip: Writer) -> None:
    path = write_clip(tmp_path / "a.mp4", 20)
    frames = VideoFile(path)
    assert len(frames) == 20
    data = bytearray(path.read_bytes())
    start = data.index(b"mdat") + 900
    data[start : data.index(b"moov")] = bytes(data.index(b"moov") - start)
    path.write_bytes(data)
    with pytest.raises(DatasetError, match=r"(frame \d+ of )?clip .* cannot be decoded"):
        list(frames.iterate(range(20)))


# Names of data sets


@pytest.fixture
def clips(tmp_path: Path, write_clip: Writer) -> Path:
    for name, count in (("long", 4), ("short", 2)):
        write_clip(tmp_path / "clips" / f"{name}.mp4", count)
        (tmp_path / "clips" / f"{name}.txt").write_text("1,2,3,4\n" * count)
    return tmp_path / "clips"


@pytest.mark.parametrize("spec", ["", "folder", "folder:", "folder:?partial=1"])
def test_a_malformed_name_is_refused(spec: str) -> None:
    with pytest.raises(ConfigError, match="is not KIND:ROOT"):
        open_dataset(spec)


def test_an_unknown_kind_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match="did you mean 'got10k'"):
        open_dataset("gto10k:/data")


def test_an_unknown_option_names_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="of got10k 'subste'; did you mean 'subset'"):
        open_dataset(f"got10k:{tmp_path}?subste=val")


def test_options_must_be_well_formed(tmp_path: Path) -> None:
    for query in ("subset", "subset=val&subset=test"):
        with pytest.raises(ConfigError, match="each option once as name=value"):
            open_dataset(f"got10k:{tmp_path}?{query}")
    with pytest.raises(ConfigError, match="partial is 0 or 1"):
        open_dataset(f"got10k:{tmp_path}?partial=yes")


@pytest.mark.parametrize("kind", KINDS)
def test_a_root_that_does_not_exist_is_named(tmp_path: Path, kind: str) -> None:
    with pytest.raises(DatasetError, match="nowhere: does not exist") as caught:
        open_dataset(f"{kind}:{tmp_path}/nowhere")
    assert [p.kind for p in caught.value.problems] == ["missing-folder"]


@pytest.mark.parametrize("kind", sorted(set(KINDS) - {"folder"}))
def test_a_root_that_is_a_file_is_refused(tmp_path: Path, kind: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DatasetError, match="is a file, a folder is needed"):
        open_dataset(f"{kind}:{tmp_path}/file")


@pytest.mark.parametrize("kind", KINDS)
def test_an_empty_root_is_refused(tmp_path: Path, kind: str) -> None:
    for spec in (f"{kind}:{tmp_path}", f"{kind}:{tmp_path}?partial=1"):
        with pytest.raises(DatasetError):
            open_dataset(spec)


def test_the_home_folder_is_understood(clips: Path, monkeypatch) -> None:
    monkeypatch.setenv("HOME", str(clips.parent))
    monkeypatch.setenv("USERPROFILE", str(clips.parent))
    assert len(open_dataset("folder:~/clips")) == 2


def test_missing_parts_are_refused_unless_asked_for(clips: Path, caplog) -> None:
    (clips / "long.txt").unlink()
    with pytest.raises(DatasetError, match=r"long\.mp4: has no boxes"):
        open_dataset(f"folder:{clips}")
    for dataset in (
        open_dataset(f"folder:{clips}", partial=True),
        open_dataset(f"folder:{clips}?partial=1"),
    ):
        assert dataset.names == ("short",)
        assert [p.kind for p in dataset.problems] == ["missing-annotation"]
    assert "left out 1 missing-annotation" in caplog.text


def test_a_dataset_can_be_pickled(clips: Path) -> None:
    dataset = pickle.loads(pickle.dumps(open_dataset(f"folder:{clips}")))
    assert [len(s) for s in dataset] == [4, 2]
