"""The studio's page in a real browser, with the real server and tracker behind it.

With SIAMTRACK_DOC_PICTURES=1 the pictures of docs/howto/annotate.md are taken on the way.
"""

from __future__ import annotations

import json
import math
import os
import re
import shutil
import subprocess
import sys
import urllib.request
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest
from playwright.sync_api import Browser, Locator, Page, expect, sync_playwright

ROOT = Path(__file__).resolve().parents[2]
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
# Every wait ends with its condition; this only bounds the wait for one that never comes.
PATIENCE_MS = 240_000
PICTURES = ROOT / "docs" / "howto" if os.environ.get("SIAMTRACK_DOC_PICTURES") else None

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed"),
]

WIDTH, HEIGHT, FRAMES = 640, 360, 60
Box = tuple[float, float, float, float]


# the clip: two balloons that cross over a field


def red(frame: int) -> Box:
    return 40 + 7.8 * frame, 100 + 40 * math.sin(frame / 12), 72, 78


def blue(frame: int) -> Box:
    return 520 - 7.2 * frame, 150 + 30 * math.cos(frame / 9), 72, 78


def draw_frames(count: int) -> Iterator[np.ndarray]:
    folder = ROOT / "siamtrack" / "demo" / "pictures"
    field = cv2.resize(cv2.imread(str(folder / "dandelions.jpg")), (WIDTH, HEIGHT))
    balloon = cv2.imread(str(folder / "balloon.webp"), cv2.IMREAD_UNCHANGED)
    rows, columns = np.nonzero(balloon[..., 3] > 128)
    balloon = balloon[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
    balloon = cv2.resize(balloon, (72, 78), interpolation=cv2.INTER_AREA).astype(np.float32)
    front = balloon[..., :3] * (0.6, 0.7, 1.1)
    back = balloon[:, ::-1, :3] * (1.2, 0.9, 0.4)
    alpha = balloon[..., 3:] / 255
    for index in range(count):
        picture = field.astype(np.float32)
        for box, color, cover in (
            (blue(index), back, alpha[:, ::-1]),
            (red(index), front, alpha),
        ):
            x, y = round(box[0]), round(box[1])
            left, right = max(x, 0), min(x + 72, WIDTH)
            if left >= right:
                continue
            part = picture[y : y + 78, left:right]
            part += (color[:, left - x : right - x] - part) * cover[:, left - x : right - x]
        yield np.clip(picture, 0, 255).astype(np.uint8)


def write(path: Path, frames: Iterator[np.ndarray]) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        stream.options = {"preset": "ultrafast", "crf": "16"}
        stream.gop_size = 15
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="bgr24")))
        container.mux(stream.encode(None))


# the server


class Studio:
    """A running `siamtrack studio`."""

    def __init__(self, clips: list[Path], project: Path) -> None:
        self.arguments = [*map(str, clips), "--project", str(project)]
        self.numbers = {clip.name: number for number, clip in enumerate(clips)}
        self.start(port=0)

    def start(self, port: int) -> None:
        self.process = subprocess.Popen(
            [
                *(sys.executable, "-m", "siamtrack", "studio", "--no-browser"),
                *(*self.arguments, "--port", str(port)),
            ],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        self.url = self.process.stdout.readline().strip()
        self.host, token = self.url.removeprefix("http://").split("/#token=")
        self.headers = {"Authorization": f"Bearer {token}"}

    def clip(self, name: str, what: str = "") -> dict[str, Any]:
        """What is stored of a clip, by HTTP: the page is not asked."""
        address = f"http://{self.host}/api/clips/{self.numbers[name]}{what}"
        request = urllib.request.Request(address, headers=self.headers)
        with urllib.request.urlopen(request) as reply:
            return dict(json.load(reply))

    def targets(self, name: str) -> list[dict[str, Any]]:
        return list(self.clip(name)["targets"])

    def end(self) -> None:
        self.process.kill()
        self.process.communicate()


NAMES = ("balloons.mp4", "meadow.mp4", "evening.mp4", "long.mp4")


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("clips")
    frames = list(draw_frames(FRAMES))
    write(folder / NAMES[0], iter(frames))
    for name in NAMES[1:3]:
        shutil.copy(folder / NAMES[0], folder / name)
    # There and back again, so long that it can be stopped.
    write(folder / NAMES[3], (frame for k in range(4) for frame in frames[:: 1 - 2 * (k % 2)]))
    return [folder / name for name in NAMES]


@pytest.fixture(scope="module")
def studio(clips: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Studio]:
    running = Studio(clips, tmp_path_factory.mktemp("project"))
    yield running
    running.end()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


# the person


class Person:
    """Hands and eyes before the page."""

    def __init__(self, page: Page) -> None:
        self.page = page

    def open(self, studio: Studio, name: str) -> None:
        self.page.goto(studio.url)
        # A page without this start's token loads itself anew with it.
        expect(self.see("#gone")).to_be_hidden()
        expect(self.page.locator("#clip-name")).not_to_be_empty()
        if self.see("#clip-name").inner_text() != name:
            self.page.get_by_role("button", name=re.compile(f"^{re.escape(name)}")).click()
        expect(self.see("#clip-name")).to_have_text(name)
        # The first frame, or where this window was before.
        expect(self.see("#stage")).to_have_attribute("data-shown", re.compile(r"\d"))

    def see(self, selector: str) -> Locator:
        return self.page.locator(selector)

    def press(self, *keys: str) -> None:
        for key in keys:
            self.page.keyboard.press(key)

    def shown(self, frame: int) -> None:
        """Wait until the picture of a frame is on the screen."""
        expect(self.see("#stage")).to_have_attribute("data-shown", str(frame))

    def go(self, frame: int) -> None:
        self.press("Escape", "g")
        self.see("#frame").fill(str(frame))
        self.press("Enter")
        self.shown(frame)

    def saved(self) -> None:
        """Wait until the server has what was done last.

        The page says that it saves from its next drawing on; until then it says what was before.
        """
        self.page.evaluate("() => new Promise(requestAnimationFrame)")
        expect(self.see("#saved")).to_have_text(re.compile("^Saved"))

    def tracked(self) -> None:
        """Wait until tracking was begun and has ended: then it is what would be undone."""
        expect(self.see("#undo")).to_have_attribute("title", re.compile("^Undo: track"))
        expect(self.see(".job")).to_have_count(0)
        self.settled()

    def settled(self) -> None:
        """Wait until the page shows what the server has."""
        self.saved()
        expect(self.see("#timeline-part")).to_have_attribute("aria-busy", "false")

    def place(self, x: float, y: float) -> tuple[float, float]:
        """Point of the screen of one of the frame, which is fitted with 12 px around it."""
        stage = self.see("#stage").bounding_box()
        assert stage is not None
        zoom = min((stage["width"] - 24) / WIDTH, (stage["height"] - 24) / HEIGHT)
        left = stage["x"] + (stage["width"] - WIDTH * zoom) / 2
        top = stage["y"] + (stage["height"] - HEIGHT * zoom) / 2
        return left + x * zoom, top + y * zoom

    def drag(self, start: tuple[float, float], end: tuple[float, float]) -> None:
        """Between two points of the screen."""
        mouse = self.page.mouse
        mouse.move(*start)
        mouse.down()
        mouse.move((start[0] + end[0]) / 2, (start[1] + end[1]) / 2)
        mouse.move(*end)
        mouse.up()

    def draw(self, box: Box) -> None:
        x, y, w, h = box
        self.drag(self.place(x, y), self.place(x + w, y + h))

    def draw_again(self, box: Box) -> None:
        """The box of the selected target, wherever others are."""
        self.press("d")
        self.draw(box)

    def picture(self, name: str) -> None:
        """One of the documentation."""
        if PICTURES is not None:
            path = PICTURES / f"annotate-{name}.jpg"
            self.page.mouse.move(2, 2)
            self.page.screenshot(path=path, type="jpeg", quality=82)


@pytest.fixture
def meet(browser: Browser, studio: Studio) -> Iterator[Callable[..., Person]]:
    """A person with a browser window; nobody finds an error in the console or a foreign request."""
    contexts, noise, hosts = [], [], set()

    def window(quiet: bool = True, **options: Any) -> Person:
        options = {"viewport": {"width": 1280, "height": 720}, "color_scheme": "dark", **options}
        context = browser.new_context(**options)
        context.set_default_timeout(PATIENCE_MS)
        contexts.append(context)
        page = context.new_page()
        page.on("request", lambda request: hosts.add(request.url.split("/")[2]))
        page.on("pageerror", lambda error: noise.append(str(error)))
        if quiet:
            page.on("console", lambda message: noise.append(message.text))
        return Person(page)

    expect.set_options(timeout=PATIENCE_MS)
    yield window
    for context in contexts:
        context.close()
    assert not noise
    assert hosts <= {studio.host}


def overlap(a: Any, b: Box) -> float:
    width = min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0])
    height = min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1])
    both = max(width, 0) * max(height, 0)
    return float(both / (a[2] * a[3] + b[2] * b[3] - both))


def boxes_of(cvat: Path) -> list[dict[int, tuple[float, ...]]]:
    """Boxes by frame of each track of a CVAT file, read by hand; absent frames are left out."""
    tracks = []
    for track in ElementTree.parse(cvat).getroot().iter("track"):
        boxes = {}
        for box in track.iter("box"):
            if box.get("outside") == "0":
                left, top, right, bottom = (
                    float(box.get(k, "")) for k in ("xtl", "ytl", "xbr", "ybr")
                )
                boxes[int(box.get("frame", ""))] = (left, top, right - left, bottom - top)
        tracks.append(boxes)
    return tracks


# the tests


def test_two_targets_that_cross_from_the_first_drag_to_the_cvat_file(
    meet: Callable[..., Person], studio: Studio, tmp_path: Path
) -> None:
    name = "balloons.mp4"
    person = meet()
    person.open(studio, name)
    assert "token" not in person.page.url
    expect(person.see("#hint")).to_contain_text("Drag a box")
    person.draw(red(0))
    person.saved()
    person.picture("draw")
    person.draw(blue(0))
    expect(person.see("#targets .item")).to_have_count(2)
    for target, truth in zip(studio.targets(name), (red(0), blue(0)), strict=True):
        assert [key["frame"] for key in target["keys"]] == [0]
        assert target["keys"][0]["box"] == pytest.approx(truth, abs=1)  # half a px of the screen

    person.see("#track-forward").click()
    person.tracked()
    assert [target["runs"][0]["last"] for target in studio.targets(name)] == [FRAMES - 1] * 2

    # The person moves the box of the second target in a frame: tracked again from there both ways.
    person.press("2")
    person.go(45)
    person.draw_again(blue(45))
    expect(person.see("#undo")).to_have_attribute(
        "title", re.compile("box of target 1 in frame 45")
    )
    person.tracked()
    second = studio.targets(name)[1]
    assert {(run["frame"], run["direction"]) for run in second["runs"]} == {
        (0, 1),
        (45, -1),
        (45, 1),
    }
    assert [1, 44, "both"] in second["gaps"]

    # Undo takes the tracking back, then the box; redo brings both again.
    person.press("Control+z")
    expect(person.see("#undo")).to_have_attribute(
        "title", re.compile("box of target 1 in frame 45")
    )
    person.press("Control+z")
    expect(person.see("#redo")).to_be_enabled()
    person.saved()
    assert len(studio.targets(name)[1]["keys"]) == 1
    person.press("Control+Shift+z", "Control+Shift+z")
    person.tracked()
    assert [key["frame"] for key in studio.targets(name)[1]["keys"]] == [0, 45]

    # What is to check is what the server says, at any threshold.
    for threshold in ("0.5", "0.9"):
        person.see("#threshold").fill(threshold)
        count = studio.clip(name, f"/check?threshold={threshold}")["count"]
        words = f"{count} to check" if count else "nothing in doubt"
        expect(person.see("#to-check")).to_have_text(words)
    assert count > 0

    # All that is doubtful is looked at; what is there is right.
    person.go(0)
    person.press("n")
    expect(person.see("#accept")).to_be_enabled()
    person.picture("review")
    while re.match(r"\d", count := person.see("#to-check").inner_text()):
        person.press("n")
        expect(person.see("#accept")).to_be_enabled()
        person.press("Enter")
        expect(person.see("#to-check")).not_to_have_text(count)
        person.settled()
    expect(person.see("#to-check")).to_have_text("nothing in doubt")

    person.see("#export").click()
    expect(person.see(".counts")).to_contain_text("60frames")
    person.picture("export")
    with person.page.expect_download() as download:
        person.see("dialog .primary").click()
    file = tmp_path / download.value.suggested_filename
    download.value.save_as(file)
    for boxes, truth in zip(boxes_of(file), (red, blue), strict=True):
        overlaps = [overlap(box, truth(frame)) for frame, box in boxes.items()]
        assert len(overlaps) > 50
        assert sum(overlaps) / len(overlaps) > 0.75

    # A new window shows the same.
    person.page.reload()
    expect(person.see("#targets .item")).to_have_count(2)
    expect(person.see("#saved")).to_contain_text(str(studio.clip(name)["revision"]))


def test_everything_by_keyboard_alone(
    meet: Callable[..., Person], studio: Studio, tmp_path: Path
) -> None:
    name = "meadow.mp4"
    person = meet()
    person.open(studio, "balloons.mp4")
    person.press("PageDown")
    expect(person.see("#clip-name")).to_have_text(name)
    person.shown(0)
    # A square of a quarter of the height in the middle, moved and resized to the balloon.
    person.press("a", "Enter")
    expect(person.see("#targets .item")).to_have_count(1)
    assert studio.targets(name)[0]["keys"][0]["box"] == [275, 135, 90, 90]
    person.press(*["Shift+ArrowLeft"] * 24, *["ArrowRight"] * 5)
    person.press(*["Shift+ArrowUp"] * 4, *["ArrowDown"] * 5)
    person.press(*["Control+Shift+ArrowLeft"] * 2, *["Control+ArrowRight"] * 2)
    person.press("Control+Shift+ArrowUp", *["Control+ArrowUp"] * 2)
    person.press("t")
    person.tracked()
    assert studio.targets(name)[0]["keys"][0]["box"] == [40, 100, 72, 78]

    person.press("Escape", "Home", ".", ">", ">", ",")
    person.shown(20)
    person.press("o")
    expect(person.see("#outside")).to_have_attribute("aria-pressed", "true")
    person.press("Home", "k")
    person.shown(20)
    person.press("Delete")
    expect(person.see("#outside")).to_have_attribute("aria-pressed", "false")
    person.press("u")
    expect(person.see("#occluded")).to_have_attribute("aria-pressed", "true")
    person.tracked()
    person.press("Home", "m")
    person.shown(10)
    # Playback at four times the speed ends with the clip.
    person.press("+", "+", " ")
    person.shown(FRAMES - 1)
    expect(person.see("#play")).to_have_attribute("aria-label", "Play")

    # The new target of a person who changes her mind; the question is answered by keys as well.
    person.press("Home", "a", "Enter")
    expect(person.see("#targets .item")).to_have_count(2)
    person.press("1", "Tab")
    expect(person.see("#targets [data-current=true] .name")).to_have_text("target 1")
    person.press("Shift+Delete")
    expect(person.see("dialog")).to_contain_text("Delete “target 1”?")
    person.press("Enter")
    expect(person.see("#targets .item")).to_have_count(1)

    person.press("?")
    expect(person.see("dialog")).to_contain_text("next to check")
    person.press("Escape")

    # Out of the picture, to the button before it.
    person.press("Escape", "Shift+Tab")
    for _ in range(30):
        if person.see("#export:focus").count():
            break
        person.press("Shift+Tab")
    expect(person.see("#export")).to_be_focused()
    person.press("Enter")
    expect(person.see(".counts")).to_contain_text("60frames")
    with person.page.expect_download() as download:
        while not person.see("dialog .primary:focus").count():
            person.press("Tab")
        person.press("Enter")
    download.value.save_as(tmp_path / "boxes.xml")
    (boxes,) = boxes_of(tmp_path / "boxes.xml")
    assert boxes[0] == (40, 100, 72, 78)
    assert 20 in boxes


@pytest.mark.parametrize("ratio", [1, 2])
def test_a_drag_at_any_zoom_gives_the_box_under_the_pointer(
    meet: Callable[..., Person], studio: Studio, ratio: int
) -> None:
    name, zoom = "evening.mp4", 3.7
    person = meet(device_scale_factor=ratio)
    person.open(studio, name)
    # 1:1 has the middle of the frame in the middle of the stage; the wheel zooms around a point.
    person.press("z")
    stage = person.see("#stage").bounding_box()
    assert stage is not None
    middle = stage["x"] + stage["width"] / 2, stage["y"] + stage["height"] / 2
    # The browser tells the place of a wheel in whole px.
    wheel = math.floor(middle[0]), math.floor(middle[1])
    person.page.mouse.move(*wheel)
    for k in range(1, 5):
        person.page.mouse.wheel(0, -math.log(zoom) / 0.0018 / 4 * ratio)
        expect(person.see("#fit")).to_have_text(f"{100 * zoom ** (k / 4):.0f} %")

    def place(x: float, y: float) -> tuple[float, float]:
        return (
            wheel[0] + (middle[0] - wheel[0] + x - WIDTH / 2) * zoom,
            wheel[1] + (middle[1] - wheel[1] + y - HEIGHT / 2) * zoom,
        )

    person.press("a")
    person.drag(place(280.5, 150.25), place(360, 190))
    person.saved()
    box = studio.targets(name)[-1]["keys"][0]["box"]
    assert box == pytest.approx([280.5, 150.25, 79.5, 39.75], abs=0.5 / zoom)
    person.press("Control+z")
    expect(person.see("#redo")).to_be_enabled()


def test_what_is_shown_when_something_is_wrong(meet: Callable[..., Person], studio: Studio) -> None:
    name = "evening.mp4"
    person, other = meet(quiet=False), meet(quiet=False)
    person.open(studio, name)
    before = len(studio.targets(name))
    other.open(studio, name)
    notice = other.see("[data-code=other_tab]")
    expect(notice).to_contain_text("open in another tab")
    other.draw(red(0))
    expect(other.see(".toast")).to_contain_text("another tab")
    notice.get_by_role("button").click()
    expect(person.see("[data-code=other_tab]")).to_be_visible()
    expect(notice).to_have_count(0)
    other.draw(red(0))
    expect(person.see("#targets .item")).to_have_count(before + 1)

    def refuse(status: int, code: str, message: str) -> None:
        body = {"error": {"code": code, "message": message}, "revision": 0}
        other.page.route("**/ops", lambda route: route.fulfill(status=status, json=body), times=1)

    refuse(507, "disk", "No space left on device; make room")
    other.draw(blue(0))
    expect(other.see("[data-code=disk]")).to_contain_text("No space left")
    expect(other.see("#saved")).to_have_text("Not saved")
    refuse(409, "revision", "changed meanwhile")
    other.draw(blue(0))
    other.page.get_by_role("button", name="Do it again").click()
    expect(other.see("#targets .item")).to_have_count(before + 2)
    expect(other.see("[data-code=disk]")).to_have_count(0)
    other.draw((300, 300, 1, 30))
    expect(other.see("#toasts")).to_contain_text("at least 2")
    assert len(studio.targets(name)) == before + 2

    stranger = meet(quiet=False)
    stranger.page.goto(f"http://{studio.host}/#token=wrong")
    expect(stranger.see("#gone")).to_contain_text("Open the address that the terminal shows")


CONTRAST = r"""() => {
  const numbers = (color) => color.match(/[\d.]+/g).map(Number);
  const linear = (c) => (c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
  const luminance = (color) => {
    const [r, g, b] = numbers(color).map((part) => linear(part / 255));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const poor = [];
  for (const element of document.querySelectorAll("body *")) {
    const text = [...element.childNodes].filter((node) => node.nodeType === 3);
    if (!text.some((node) => node.data.trim()) || !element.checkVisibility()) continue;
    if (element.closest(":disabled, option, datalist")) continue;
    let under = element;
    const back = () => getComputedStyle(under).backgroundColor;
    while (under !== document.body && (numbers(back())[3] ?? 1) < 0.8) under = under.parentElement;
    const both = [luminance(getComputedStyle(element).color), luminance(back())];
    const contrast = (Math.max(...both) + 0.05) / (Math.min(...both) + 0.05);
    if (contrast < 4.5) poor.push(`${element.textContent}: ${contrast.toFixed(2)}`);
  }
  return poor;
}"""
CUT_OFF = """() => {
  const inside = "header, .transport, aside.right";
  const all = document.querySelectorAll(`html, ${inside}, ${inside} .group, ${inside} .row`);
  const high = (e) => innerHeight >= 720 && e.scrollHeight > e.clientHeight + 1;
  const cut = (e) => e.scrollWidth > e.clientWidth + 1 || high(e);
  return [...all].filter(cut).map((e) => e.id || e.className || e.tagName);
}"""


@pytest.mark.parametrize("scheme", ["dark", "light"])
@pytest.mark.parametrize("size", [(1280, 720), (1024, 600)])
def test_every_word_can_be_read_and_nothing_is_cut_off(
    meet: Callable[..., Person], studio: Studio, scheme: str, size: tuple[int, int]
) -> None:
    person = meet(color_scheme=scheme, viewport={"width": size[0], "height": size[1]})
    person.open(studio, "balloons.mp4")
    assert person.page.evaluate(CUT_OFF) == []
    assert person.page.evaluate(CONTRAST) == []
    person.press("?")
    expect(person.see("dialog")).to_be_visible()
    assert person.page.evaluate(CONTRAST) == []


def test_tracking_is_stopped_and_survives_a_server_that_is_killed(
    meet: Callable[..., Person], studio: Studio
) -> None:
    name = "long.mp4"
    person = meet(quiet=False)
    person.open(studio, name)
    frames = studio.clip(name)["clip"]["frames"]
    person.see("#until").select_option("end")
    person.draw(red(0))
    person.saved()
    person.press("t")
    moving = person.see('.job progress:not([value="0"])')
    expect(moving).to_be_visible()
    person.press("Escape")
    person.tracked()
    (run,) = studio.targets(name)[0]["runs"]
    assert 1 <= run["last"] < frames - 1

    person.press("End", "Home", "t")
    expect(moving).to_be_visible()
    studio.end()
    expect(person.see("#gone")).to_contain_text("Your work is saved up to revision")
    # Another start has another token, which this page cannot know.
    studio.start(port=int(studio.host.rpartition(":")[2]))
    expect(person.see("#gone")).to_contain_text("Open the address that the terminal shows")
    person.open(studio, name)
    (target,) = studio.targets(name)
    assert target["keys"][0]["box"] == pytest.approx(red(0), abs=1)
    assert max(run["last"] for run in target["runs"]) >= run["last"]
    person.press("t")
    expect(moving).to_be_visible()
    person.press("Escape")
    person.tracked()


def test_a_server_that_ends_in_the_middle_of_an_answer_is_gone(
    meet: Callable[..., Person], studio: Studio
) -> None:
    person = meet()
    person.open(studio, "meadow.mp4")
    # The head of an answer arrives, its body does not.
    found = person.page.evaluate(
        """async () => {
          const { Api } = await import("/page/api.js");
          const end = (torn) => torn.error(new TypeError("Failed to fetch"));
          const torn = () => new ReadableStream({ start: end });
          window.fetch = async () => new Response(torn());
          const api = new Api();
          const calls = [api.session(), api.track(0, 0, 0, 1), api.picture(0, 0, "", undefined)];
          // A body that was cut off without a word.
          const half = { headers: { "Content-Length": "20" } };
          window.fetch = async () => new Response(new Uint8Array(10), half);
          calls.push(api.track(0, 0, 0, 1), api.picture(0, 0, "", undefined));
          const told = ({ reason }) => [reason.status, reason.message];
          return (await Promise.allSettled(calls)).map(told);
        }"""
    )
    assert found == [[0, "siamtrack does not answer"]] * 5
