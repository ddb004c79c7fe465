"""Frames by number: the same as in order, in every kind of file and from any direction."""

from __future__ import annotations

import gc
from pathlib import Path

import av
import numpy as np
import pytest

from siamtrack.errors import DatasetError, FrameNumberError, NotNumberedError, VideoError
from siamtrack.video import random_access
from siamtrack.video.frames import Frame
from siamtrack.video.random_access import ClipFrames, PictureFrames, VideoFile
from siamtrack.video.source import open_source
from tests.video.kinds_of_file import COUNT, HEIGHT, KINDS, WIDTH, pictures, write


def same(given: Frame, expected: Frame) -> bool:
    return (
        given.index == expected.index
        and given.time_s == expected.time_s
        and given.picture == expected.picture
        and given.image.tobytes() == expected.image.tobytes()
    )


@pytest.mark.parametrize("name", KINDS)
def test_frames_by_number_are_those_that_come_in_order(tmp_path: Path, name: str) -> None:
    path = KINDS[name](tmp_path / name)
    with open_source(path) as source:
        in_order = [next(source)]
        assert len(in_order) + len([in_order.append(frame) for frame in source]) == len(source)
        assert len(source) > 10
        numbers = np.random.default_rng(3).integers(0, len(source), 20).tolist()
        numbers += [*range(6, min(20, len(source))), *range(len(source) - 1, -1, -1), 0]
        wrong = [number for number in numbers if not same(source[number], in_order[number])]
        assert wrong == []
        if isinstance(source.numbered, ClipFrames):
            counted = {"xvid.avi", "raw.h264"}
            assert source.numbered.index.is_searchable == (name not in counted)
    given_away = open_source(path)
    with given_away.into_numbered() as frames:
        if isinstance(frames, PictureFrames):
            list(frames.check())  # those that cannot be read do not count
        for some in (numbers[:3], numbers[-3:]):
            assert all(same(frames[number], in_order[number]) for number in some)
            frames.close()  # it is opened again when it is needed
        with pytest.raises(VideoError, match="is closed"):
            next(given_away)


def with_false_key_frames(path: Path) -> Path:
    """A file that calls every frame a key frame, while only the first one is."""
    with av.open(str(write(path.with_stem("true"), "mpeg4", gop=100))) as container:
        stream = container.streams.video[0]
        with av.open(str(path), "w") as copy:
            target = copy.add_stream_from_template(stream)
            for packet in container.demux(stream):
                if packet.size:
                    packet.is_keyframe = True
                    packet.stream = target
                    copy.mux(packet)
    return path


def test_fingerprints_find_key_frames_that_are_none(tmp_path: Path) -> None:
    path = with_false_key_frames(tmp_path / "a.mp4")
    with open_source(path) as source:
        in_order = list(source)
        frames = source.numbered
        assert isinstance(frames, ClipFrames)
        assert len(frames.index.starts) == COUNT
        assert not same(source[14], in_order[14])
        assert list(frames.take_fingerprints()) == [*range(1, COUNT + 1)]
        wrong = [
            n for n in (14, 30, 26, 38, *range(39, -1, -1)) if not same(source[n], in_order[n])
        ]
        assert wrong == []
        assert frames.index.is_searchable
        assert 0 in frames.index.starts
        assert len(frames.index.starts) < COUNT - 10


@pytest.mark.parametrize("with_pass", [False, True])
def test_damage_makes_the_frames_be_counted(tmp_path: Path, with_pass: bool) -> None:
    path = write(tmp_path / "a.mkv", "mpeg4", gop=5)
    data = bytearray(path.read_bytes())
    with av.open(str(path)) as container:
        packet = [p for p in container.demux(video=0) if p.size][20]
        start = packet.pos + 8
    data[start : start + packet.size // 2] = bytes(packet.size // 2)
    path.write_bytes(data)
    with open_source(path) as source:
        frames = source.numbered
        assert isinstance(frames, ClipFrames)
        assert len(frames) == COUNT
        if with_pass:
            list(frames.take_fingerprints())
        else:
            source[22]
        in_order = list(source)
        assert 0 < source.unreadable == COUNT - len(in_order)
        assert len(source) == len(in_order)
        assert all(same(frame, in_order[-1 - k]) for k, frame in enumerate(reversed(source)))
    with open_source(path) as source:
        list(source)
        assert len(source) == len(in_order)  # It knows from reading.


def test_reading_backwards_decodes_a_group_once_in_bounded_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path / "a.mp4", gop=10)
    decoded = []
    keep = ClipFrames._keep
    monkeypatch.setattr(
        ClipFrames, "_keep", lambda self, n, frame: (decoded.append(n), keep(self, n, frame))
    )
    frame_bytes = WIDTH * HEIGHT * 3 // 2
    monkeypatch.setattr(random_access, "CACHE_BYTES", 30 * frame_bytes)
    with open_source(path) as source:
        assert [frame.index for frame in reversed(source)] == [*range(COUNT - 1, -1, -1)]
        assert isinstance(source.numbered, ClipFrames)
        assert 10 < source.numbered.kept_bytes <= 30 * frame_bytes
    assert len(decoded) == COUNT


def test_frames_that_are_not_kept_need_no_garbage_collector(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path / "a.mp4", gop=10)
    monkeypatch.setattr(random_access, "CACHE_BYTES", 5 * WIDTH * HEIGHT * 3 // 2)

    def count() -> int:
        return sum(type(thing) is av.VideoFrame for thing in gc.get_objects())

    gc.collect()
    before = count()
    gc.disable()
    try:
        with open_source(path) as source:
            for number in (*range(COUNT), 5, 33, 17, 2):
                _ = source[number], next(source, None)
            assert count() - before < 12  # those that are kept, and the decoders' next ones
    finally:
        gc.enable()


def test_numbers_that_are_none_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "a.mp4")
    with open_source(path) as source:
        assert bool(source)
        assert same(source[-1], source[COUNT - 1])
        with pytest.raises(
            FrameNumberError, match=r"no frame 40 in a\.mp4; it has 40, counted from 0"
        ):
            source[COUNT]
        with pytest.raises(IndexError, match="no frame -41"):
            source[-COUNT - 1]
        with pytest.raises(NotNumberedError, match=r"slice\(2, 5, None\) is no number of a frame"):
            source[2:5]
    with pytest.raises(VideoError, match=r"a\.mp4 is closed"):
        source[0]


def test_sources_that_only_come_in_order_say_so(tmp_path: Path) -> None:
    path = write(tmp_path / "a.mp4")
    with open_source(path, live=True) as source, pytest.raises(NotNumberedError, match="is live"):
        source[0]
    with open_source([path, path]) as source:
        with pytest.raises(TypeError, match="several recordings, whose frames come in order only"):
            len(source)
        assert len(list(source)) == 2 * COUNT


def test_a_file_that_was_cut_off_meanwhile_says_so(tmp_path: Path) -> None:
    path = write(tmp_path / "a.mkv")
    with open_source(path) as source:
        assert len(source) == COUNT
        path.write_bytes(path.read_bytes()[:5000])
        with pytest.raises(VideoError, match=r"frame 30 of a\.mkv cannot be decoded"):
            source[30]
    with pytest.raises(DatasetError, match="no frame 30"):
        VideoFile(path).read(30)


def test_a_picture_that_is_gone_is_left_out_and_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = pictures(tmp_path / "folder")
    with open_source(folder) as source:
        assert len(source) == 12  # that one is damaged shows when it is read
        assert source[5].picture == "5.png"
        assert source[4].picture == "5.png"
        assert len(source) == 11
        (folder / "11.png").unlink()
        with pytest.raises(VideoError, match=r"frame 10 of folder cannot be read: .*11\.png"):
            source[10]
    assert "4.png" in caplog.text
