"""The TraX protocol: sessions as the VOT toolkit holds them, and what breaks them."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import threading

import cv2
import numpy as np
import pytest

import siamtrack
from siamtrack.errors import EvaluationError, InvalidBoxError, SiamTrackError
from siamtrack.evaluation.vot_server import TraxMessage, serve

BOXES = ((20, 20, 24, 20), (20, 75, 24, 20))


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """Six frames of two patches that move, in a folder with a space in its name."""
    folder = tmp_path_factory.mktemp("vot") / "my color"
    folder.mkdir()
    rng = np.random.default_rng(1)
    ground = cv2.resize(rng.integers(0, 120, (6, 8, 3), np.uint8), (160, 120))
    patches = [cv2.resize(rng.integers(60, 255, (3, 4, 3), np.uint8), (24, 20)) for _ in BOXES]
    for frame in range(6):
        image = ground.copy()
        for (x, y, w, h), patch in zip(BOXES, patches, strict=True):
            image[y : y + h, x + 2 * frame : x + 2 * frame + w] = patch
        cv2.imwrite(str(folder / f"{frame + 1:08d}.jpg"), image)
    return folder


@pytest.fixture(scope="module")
def tracker():
    return siamtrack.load_multi("siamtrack-nano", engine="onnx:int8", threads=1)


@pytest.fixture
def session(tracker):
    """Holds a session in this process; the answers after hello."""

    def hold(text, *, multi=True, **options):
        tracker.reset()
        answers = io.StringIO()
        lines = (f"{line}\n" for line in text.splitlines())
        try:
            serve(tracker, lines, answers, multi=multi, **options)
        finally:
            hold.said = answers.getvalue().splitlines()[1:]
        return [TraxMessage.parse(line) for line in hold.said]

    return hold


def initialize(*numbers):
    texts = [f"{','.join(f'{value:.4f}' for value in box)}" for box in numbers]
    return "\n".join(f'@@TRAX:initialize "{text}" ' for text in texts)


def frame(pictures, number):
    return f'@@TRAX:frame "file://{pictures}/{number:08d}.jpg" '


def box_of(message):
    return tuple(map(float, message.arguments[0].split(",")))


def test_messages_are_read_and_written_as_the_reference_library_does():
    line = '@@TRAX:state "1.0,2.0,3.0,4.0" "confidence=0.9" bare "a \\"b\\" \\\\ \\n" trax.x=1\n'
    message = TraxMessage.parse(line)
    assert message == TraxMessage(
        "state", ("1.0,2.0,3.0,4.0", "bare", 'a "b" \\ \n'), {"confidence": "0.9", "trax.x": "1"}
    )
    assert TraxMessage.parse(str(message)) == message
    assert TraxMessage.parse("Processing frame 1/49") is None
    # A file name with = is no property.
    assert TraxMessage.parse('@@TRAX:frame "file:///a=b.jpg"').arguments == ("file:///a=b.jpg",)


def test_a_recorded_session_through_a_pipe_equals_single_runs(pictures, tmp_path):
    # What toolkit 0.9.0 sends, its own lines between the messages included.
    lines = [initialize(*BOXES), frame(pictures, 1)]
    for number in range(2, 7):
        lines += [f"Processing frame {number - 1}/5", frame(pictures, number)]
    command = [sys.executable, "-m", "siamtrack", "vot", "--multi", "--weights", "siamtrack-nano"]
    done = subprocess.run(
        [*command, "--engine", "onnx:int8"],
        input="\n".join([*lines, "@@TRAX:quit ", ""]),
        capture_output=True,
        text=True,
        cwd=tmp_path,
        timeout=250,
    )
    assert done.returncode == 0, done.stderr
    hello, *states, quit_message = done.stdout.splitlines()
    facts = TraxMessage.parse(hello).properties
    assert facts["trax.version"] == "4" and facts["trax.multiobject"] == "1"
    assert (facts["trax.image"], facts["trax.region"]) == ("path;", "rectangle;")
    assert quit_message == "@@TRAX:quit"
    # The same frames through the package.
    multi = siamtrack.load_multi("siamtrack-nano", engine="onnx:int8")
    expected = []
    with siamtrack.open_source(pictures) as source:
        for one in source:
            results = multi.update(one.image)
            for box in BOXES if one.index == 0 else ():
                results[multi.add(one.image, box)] = siamtrack.Result(box, 1.0, "tracked")
            expected += results.values()
    assert len(states) == len(expected) == 12
    for line, result in zip(states, expected, strict=True):
        message = TraxMessage.parse(line)
        assert box_of(message) == pytest.approx(result.box, abs=1e-4)
        assert float(message.properties["confidence"]) == pytest.approx(result.score, abs=1e-3)


def test_the_reference_client_of_trax_gets_the_boxes_of_the_package(pictures, tracker):
    library = pytest.importorskip("trax.client", reason="vot-trax is not installed")
    from trax.image import FileImage
    from trax.region import Rectangle

    requests, answers, said_aloud = os.pipe(), os.pipe(), list[str]()

    def answer():
        with open(requests[0]) as lines, open(answers[1], "w") as stream:
            serve(tracker, lines, stream, multi=True)

    def shown(number):
        return {"color": FileImage.create(f"{pictures}/{number:08d}.jpg")}

    tracker.reset()
    thread = threading.Thread(target=answer)
    thread.start()
    try:
        client = library.Client(stream=(requests[1], answers[0]), log=said_aloud.append)
        assert (client.tracker_name, client.get("multiobject")) == ("siamtrack", True)
        assert (client.image_formats, client.region_formats) == (["path"], ["rectangle"])
        objects = [(Rectangle.create(*box), {}) for box in BOXES]
        said = [client.initialize(shown(1), objects, {})[0]]
        said += [client.frame(shown(number), {}, [])[0] for number in range(2, 7)]
        client.quit()
    finally:
        os.close(requests[1])  # which ends the session whatever happened
        thread.join()
        os.close(answers[0])
    tracker.reset()
    with siamtrack.open_source(pictures) as source:
        for one, states in zip(source, said, strict=True):
            results = tracker.update(one.image)
            for box in BOXES if one.index == 0 else ():
                results[tracker.add(one.image, box)] = siamtrack.Result(box, 1.0, "tracked")
            for (region, facts), result in zip(states, results.values(), strict=True):
                assert region.bounds() == pytest.approx(result.box, abs=1e-4)
                assert float(facts["confidence"]) == pytest.approx(result.score, abs=1e-4)


def test_objects_may_be_added_and_all_be_forgotten(session, pictures):
    answers = session(
        "\n".join(
            [
                initialize(BOXES[0]),
                frame(pictures, 1),
                initialize(BOXES[1]),
                frame(pictures, 2),
                "@@TRAX:initialize ",  # toolkit 0.7.4 before it starts again
                initialize(BOXES[1]),
                frame(pictures, 1),
            ]
        )
    )
    assert [message.name for message in answers] == ["state"] * 4
    assert box_of(answers[0]) == BOXES[0]
    assert box_of(answers[2]) == box_of(answers[3]) == BOXES[1]


def test_without_several_objects_the_newest_counts(session, pictures):
    text = "\n".join([initialize(*BOXES), frame(pictures, 1)])
    (answer,) = session(text, multi=False)
    assert box_of(answer) == BOXES[1]


def test_a_lost_target_is_where_it_was_or_nowhere(session, pictures, tmp_path):
    cv2.imwrite(str(tmp_path / "00000001.jpg"), np.zeros((120, 160, 3), np.uint8))
    text = "\n".join([initialize(BOXES[0]), *[frame(pictures, 1)], *[frame(tmp_path, 1)] * 14])
    last = session(text, when_lost="box")[-1]
    assert min(box_of(last)[2:]) > 2 and float(last.properties["confidence"]) < 0.5
    assert box_of(session(text, when_lost="empty")[-1]) == (0, 0, 0, 0)


def test_names_may_be_written_as_addresses(session, pictures):
    written = frame(pictures, 1).replace(" color", "%20color")
    (answer,) = session("\n".join([initialize(BOXES[0]), written]))
    assert box_of(answer) == BOXES[0]


@pytest.mark.parametrize(
    ("text", "error", "said"),
    [
        ('@@TRAX:frame "file:///x.jpg"', SiamTrackError, "x.jpg"),
        ("@@TRAX:frame ", EvaluationError, "without its picture"),
        ("FRAME", EvaluationError, "before any target"),
        ('@@TRAX:initialize "m0,0,2,2,0,4"', EvaluationError, "is no rectangle; give x,y,w,h"),
        ('@@TRAX:initialize "500,0,9,9"\nFRAME', InvalidBoxError, "outside the 160x120 frame"),
        ("@@TRAX:state", EvaluationError, "state is not one of TraX 4"),
    ],
)
def test_the_toolkit_is_told_why_the_session_ends(session, pictures, text, error, said):
    with pytest.raises(error, match=said):
        session(text.replace("FRAME", frame(pictures, 1)))
    last = TraxMessage.parse(session.said[-1])
    assert last.name == "quit" and said in last.properties["trax.reason"]
