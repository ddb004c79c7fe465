"""The studio over HTTP, without tracking: pictures, operations, import, export, restarts."""

from __future__ import annotations

import contextlib
import http.client
import io
import json
import shutil
import tempfile
import threading
import time
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

import siamtrack
from siamtrack.data.convert import convert
from siamtrack.data.datasets import open_dataset
from siamtrack.errors import DatasetError
from siamtrack.studio import exchange
from siamtrack.studio.frames import FrameService, Shot, ShotCache
from siamtrack.studio.server import Studio
from siamtrack.video.source import open_source
from tests.studio.client import Client, Events, box_in, served, write_clip
from tests.video.kinds_of_file import KINDS

COUNT = 30


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clip(tmp_path_factory.mktemp("clips") / "clip.mp4", COUNT)


@pytest.fixture(scope="module")
def client(clip: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    with served([clip], tmp_path_factory.mktemp("server")) as (client, _):
        yield client


@pytest.fixture(autouse=True)
def no_targets(request: pytest.FixtureRequest) -> None:
    """Every test begins without targets."""
    if "client" in request.fixturenames:
        client = request.getfixturevalue("client")
        targets = client.get("/api/clips/0")["targets"]
        if targets:
            client.perform(*({"op": "delete_target", "target": t["id"]} for t in targets))


# --- Pictures ------------------------------------------------------------------------------------


def test_a_picture_has_the_pixels_of_its_frame(client: Client, clip: Path) -> None:
    with open_source(clip) as video:
        frames = [frame.image for frame in video]
    for number in (0, 17, 3, 29, 28, 27, 12, 13):
        _, data, headers = client.ask(f"/api/clips/0/frames/{number}")
        wanted = cv2.imencode(".jpg", frames[number], [cv2.IMWRITE_JPEG_QUALITY, 85])[1]
        assert data == wanted.tobytes() and headers["x-siamtrack-frame"] == str(number)
    _, data, headers = client.ask("/api/clips/0/frames/5?png=1&x=-10&y=20&cw=50&ch=30")
    part = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    assert np.array_equal(part, frames[5][20:50, :40]) and headers["content-type"] == "image/png"
    assert headers["cache-control"] == "private, no-cache"
    assert headers["x-siamtrack-size"] == "160x120"


@pytest.fixture(scope="module")
def all_kinds(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Client, list[Path]]]:
    """One studio with a clip of every kind of file."""
    folder = tmp_path_factory.mktemp("kinds")
    paths = [make(folder / name) for name, make in KINDS.items()]
    with served(paths, tmp_path_factory.mktemp("server")) as (client, _):
        yield client, paths


@pytest.mark.parametrize("number", range(len(KINDS)), ids=list(KINDS))
def test_pictures_of_every_kind_of_file_are_those_of_reading_in_order(all_kinds, number) -> None:
    client, paths = all_kinds
    client.wait_until_open(number)
    with open_source(paths[number]) as video:
        quality = [cv2.IMWRITE_JPEG_QUALITY, 85]
        wanted = [cv2.imencode(".jpg", frame.image, quality)[1].tobytes() for frame in video]
    count = len(wanted)
    assert client.wait_until_checked(number)["frames"] == count
    banners = [banner["text"] for banner in client.get(f"/api/clips/{number}")["banners"]]
    assert any("1 picture(s)" in text for text in banners) == (paths[number].name == "pictures")
    random = np.random.default_rng(5).integers(0, count, 60).tolist()
    asked = [*random, *(k % count for k in range(60)), *range(count - 1, max(-1, count - 41), -1)]
    connection = http.client.HTTPConnection("127.0.0.1", client.port, timeout=60)
    with contextlib.closing(connection):
        wrong = []
        for k in asked:
            headers = {"Authorization": f"Bearer {client.token}"}
            connection.request("GET", f"/api/clips/{number}/frames/{k}", headers=headers)
            wrong += [k] * (connection.getresponse().read() != wanted[k])
    assert wrong == []


def test_pictures_are_made_smaller_never_larger_and_kept(client: Client) -> None:
    reads: list[int] = []

    def read(number: int) -> np.ndarray:
        reads.append(number)
        return np.full((300, 1000, 3), number, np.uint8)

    cache = ShotCache(limit_bytes=100_000)
    with FrameService(read, lambda: None, cache) as service:

        def size(shot: Shot) -> tuple[int, ...]:
            data = service.request(shot).result()
            return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR).shape

        assert size(Shot(1, width=640)) == (192, 640, 3) and size(Shot(1, width=1280))[1] == 1000
        assert size(Shot(1, width=640)) == (192, 640, 3) and reads == [1, 1]
        for number in range(2, 40):  # about 5 kB each: the first ones are dropped
            size(Shot(number))
        assert size(Shot(1, width=640)) == (192, 640, 3) and reads.count(1) == 3


def test_a_picture_that_nobody_waits_for_any_more_is_not_decoded() -> None:
    reads: list[int] = []
    begun, go = threading.Event(), threading.Event()

    def read(number: int) -> np.ndarray:
        reads.append(number)
        begun.set()
        assert go.wait(60)
        return np.zeros((4, 4, 3), np.uint8)

    with FrameService(read, lambda: None, ShotCache()) as service:
        first = service.request(Shot(0))
        begun.wait(60)
        given_up, other = service.request(Shot(1)), service.request(Shot(2))
        assert given_up.cancel()
        go.set()
        for future in (first, other):
            future.result(60)
    assert reads == [0, 2]


def test_only_the_clip_that_is_looked_at_keeps_decoded_frames(clip: Path, tmp_path: Path) -> None:
    other = write_clip(tmp_path / "other.mp4", COUNT)
    with served([clip, other], tmp_path) as (client, studio):
        client.wait_until_open(1)
        client.ask("/api/clips/0/frames/20")
        assert studio.clips[0]._frames.kept_bytes > 0
        client.ask("/api/clips/1/frames/5")
        for _ in range(600):
            if not studio.clips[0]._frames.kept_bytes:
                break
            time.sleep(0.05)
        assert [one._frames.kept_bytes > 0 for one in studio.clips] == [False, True]
        with open_source(clip) as video:
            wanted = cv2.imencode(".jpg", video[21].image, [cv2.IMWRITE_JPEG_QUALITY, 85])[1]
        assert client.ask("/api/clips/0/frames/21")[1] == wanted.tobytes()


# --- Operations ----------------------------------------------------------------------------------


def test_a_change_is_told_and_comes_back_with_its_rows(client: Client) -> None:
    page = Events(client)
    try:
        revision = client.get("/api/clips/0")["revision"]
        name = {"X-Siamtrack-Connection": page.hello["connection"]}
        operations = [
            {"op": "add_target", "label": "car"},
            {"op": "set_key", "target": "new", "frame": 4, "box": [10, 20, 30, 40]},
        ]
        body = {"revision": revision, "ops": operations}
        _, done, _ = client.ask("/api/clips/0/ops", body, headers=name)
        saved = page.wait_for("saved")
        assert saved["revision"] == done["revision"] == revision + 1
        assert saved["changes"] == done["changes"]
    finally:
        page.close()
    [target] = done["created"]
    [shown] = done["changes"]["targets"]
    assert shown["label"] == "car" and shown["keys"] == [
        {"frame": 4, "box": [10, 20, 30, 40], "outside": False, "occluded": False, "by": "hand"}
    ]
    assert done["changes"]["dirty"] == [[target, 0, COUNT - 1]]

    rows = client.get(f"/api/clips/0/track?target={target}&first=3&last=5")
    assert rows["x"] == [None, 10, None] and rows["source"] == [0, 1, 0]
    _, data, headers = client.ask(f"/api/clips/0/track?target={target}&as=binary&first=3&last=5")
    assert len(data) == 27 * 3 and headers["x-siamtrack-first"] == "3"
    assert np.frombuffer(data, "<f4", 12).reshape(4, 3)[:, 1].tolist() == [10, 20, 30, 40]
    assert list(data[72:]) == [0, 1, 0, 0, 1, 0, 0, 0, 0]
    assert client.get("/api/clips/0")["labels"] == ["car"]
    assert client.get("/api/session")["clips"][0]["targets"] == 1


def test_an_older_revision_is_refused_and_the_newest_one_told(client: Client) -> None:
    old = client.get("/api/clips/0")["revision"]
    client.draw(0, [10, 10, 20, 20])
    for path, body in (
        ("ops", {"revision": old, "ops": [{"op": "add_target"}]}),
        ("undo", {"revision": old}),
        ("ops", {"revision": old + 99, "ops": []}),
    ):
        status, content, _ = client.ask(f"/api/clips/0/{path}", body)
        assert (status, content["error"]["code"], content["revision"]) == (409, "revision", old + 1)


def test_undo_and_redo(client: Client) -> None:
    target = client.draw(7, [10, 10, 20, 20])
    snapshot = client.get("/api/clips/0")
    assert snapshot["undo"] == f"box of target {target} in frame 7" and snapshot["redo"] is None
    done = client.post("/api/clips/0/undo", {"revision": snapshot["revision"]})
    assert done["text"] == f"undone: {snapshot['undo']}" and done["changes"]["deleted"] == [target]
    again = client.post("/api/clips/0/redo", {"revision": done["revision"]})
    assert [t["id"] for t in again["changes"]["targets"]] == [target]
    status, content, _ = client.ask("/api/clips/0/redo", {"revision": again["revision"]})
    assert (status, content["error"]["code"]) == (409, "refused")


def test_candidates_and_times(client: Client) -> None:
    target = client.draw(0, [10, 10, 20, 20])
    client.draw(10, [30, 10, 20, 20], target)
    found = client.get(f"/api/clips/0/candidates?target={target}&first=4&last=5")
    assert found["line"]["x"] == [18, 20] and found["forward"]["x"] == [None, None]
    times = client.get("/api/clips/0/times")["times_s"]
    assert len(times) == COUNT and times[:2] == [0, 0.04]


# --- Import and export ---------------------------------------------------------------------------


def table(frames: range, target: int = 0) -> bytes:
    lines = ["frame,time_s,target,x,y,w,h,score,status"]
    for k in frames:
        x, y, w, h = box_in(k)
        lines.append(f"{k},{k / 25:.6f},{target},{x:.4f},{y:.4f},{w:.4f},{h:.4f},0.9000,tracked")
    return ("\n".join(lines) + "\n").encode()


def fetch(client: Client, to: str, **options) -> tuple[dict, bytes]:
    body = {"format": to, "options": options}
    made = client.post("/api/clips/0/export", body)
    status, data, headers = client.ask(f"/api/exports/{made['export']}")
    assert status == 200 and len(data) == made["bytes"]
    assert made["name"] in headers["content-disposition"]
    return made, data


@pytest.mark.parametrize("thin", ["0.9", "0"])
def test_what_is_imported_is_exported_as_it_was(client: Client, thin: str) -> None:
    sent = table(range(5, 20))
    path = f"/api/clips/0/import?name=boxes.csv&thin={thin}"
    done = client.post(path, sent)
    [target] = done["created"]
    assert (done["format"], done["boxes"]) == ("csv", 15)
    assert done["keys"] == (15 if thin == "0" else done["keys"]) and done["keys"] < 16
    [shown] = done["changes"]["targets"]
    assert {key["by"] for key in shown["keys"]} == {"import"} and shown["keys"][-1]["outside"]
    _, data = fetch(client, "csv")
    lines = data.decode().splitlines()
    boxes = [line.split(",")[3:7] for line in lines[1:]]
    assert boxes == [line.split(",")[3:7] for line in sent.decode().splitlines()[1:]]
    # Undo takes all of it back at once.
    client.post("/api/clips/0/undo", {"revision": done["revision"]})
    assert client.get("/api/clips/0")["targets"] == []
    assert target not in client.get("/api/session")["clips"]


def test_a_project_is_read_and_made_without_the_studio(clip: Path, tmp_path: Path) -> None:
    project, back = tmp_path / "project0", tmp_path / "back.csv"
    with served([clip], tmp_path) as (client, _):
        target = client.draw(0, [10, 10, 20, 20])
        client.perform({"op": "set_key", "target": target, "frame": 9, "outside": True})
        client.post("/api/clips/0/import?name=boxes.csv", table(range(5, 20)))
        _, exported = fetch(client, "csv")
        # While the studio has it open, and after it: the same as its own export.
        convert(project, back, clip=clip)
        assert back.read_bytes() == exported
    convert(project, back, clip=clip, overwrite=True)
    assert back.read_bytes() == exported
    rows = siamtrack.read_project(project)
    assert [replace(row, time_s=None) for row in siamtrack.read_table(back)] == [
        replace(row, label="", key=False) for row in rows
    ]
    assert (rows[0].frame, rows[0].key, rows[0].label) == (0, True, "thing")

    # The other way: a table becomes a project, which the studio takes for the clip's.
    made = tmp_path / "made" / "project0"
    with pytest.raises(DatasetError, match=r"frame size .* is not known"):
        convert(back, made, "studio")
    convert(back, made, "studio", clip=clip)
    with served([clip], tmp_path / "made") as (client, _):
        snapshot = client.get("/api/clips/0")
        assert snapshot["read_only"] is None and len(snapshot["targets"]) == 2
        assert len(snapshot["targets"][1]["keys"]) < 16
        assert fetch(client, "csv")[1] == exported
    write_clip(tmp_path / "other.mp4", COUNT - 3)
    with served([tmp_path / "other.mp4"], tmp_path / "made") as (client, _):
        assert "another file" in client.get("/api/clips/0")["read_only"]

    # What the studio made is truth, without an export.
    clips = tmp_path / "clips"
    shutil.copytree(project, clips / "clip.mp4.siamtrack")
    shutil.copy(clip, clips)
    first, second = open_dataset(f"folder:{clips}")
    assert np.flatnonzero(first.visible).tolist() == [0]
    assert second.boxes[7].tolist() == pytest.approx(box_in(7), abs=1e-4)
    assert np.flatnonzero(second.visible).tolist() == list(range(5, 20))

    snapshot = json.loads((project / "project.json").read_text())
    snapshot["runs"][0][1]["file"] = "../../secret"
    (project / "project.json").write_text(json.dumps(snapshot))
    with pytest.raises(DatasetError, match="names no run"):
        siamtrack.read_project(project)
    with pytest.raises(DatasetError, match="is no folder"):
        siamtrack.read_project(clip)
    with pytest.raises(DatasetError, match=r"holds no project\.json"):
        siamtrack.read_project(tmp_path)


@pytest.mark.parametrize("to", ["cvat", "mot", "coco", "yolo-tracks", "label-studio", "datumaro"])
def test_formats_of_others_go_out_and_come_back(client: Client, to: str) -> None:
    client.post("/api/clips/0/import?name=boxes.csv", table(range(5, 20)))
    made, data = fetch(client, to)
    back = client.ask(f"/api/clips/0/import?name={made['name']}&format={to}&thin=0", data)
    assert back[0] == 200, back[1]
    assert back[1]["boxes"] == 15
    rows = client.get(f"/api/clips/0/track?target={back[1]['created'][0]}&first=5&last=19")
    assert rows["x"] == pytest.approx([box_in(k)[0] for k in range(5, 20)], abs=0.01)
    assert rows["source"] == [1] * 15


def test_the_preview_counts_what_would_be_written(client: Client) -> None:
    target = client.draw(0, [10, 10, 20, 20])
    client.draw(10, [30, 10, 20, 20], target)
    client.perform({"op": "set_key", "target": target, "frame": 20, "outside": True})
    body = {"format": "yolo", "options": {}, "preview": True}
    found = client.post("/api/clips/0/export", body)
    counts = dict(frames=COUNT, targets=1, boxes=2, key=3, absent=28, uncertain=0, lost=0)
    assert found["counts"] == {**counts, "stale": 0, "to_check": 0}
    body["options"] = {"interpolate": True}
    found = client.post("/api/clips/0/export", body)
    assert found["counts"]["boxes"] == 11 and "export" not in found
    assert found["name"] == "clip_yolo.zip"


def test_pictures_go_with_the_boxes_and_equal_exports_are_equal_bytes(client: Client) -> None:
    client.draw(0, [10, 10, 20, 20])
    made, data = fetch(client, "coco", images=True)
    assert made["name"] == "clip_coco.zip" and fetch(client, "coco", images=True)[1] == data
    names = zipfile.ZipFile(io.BytesIO(data)).namelist()
    assert len([name for name in names if name.endswith(".jpg")]) == COUNT


@pytest.mark.parametrize(
    ("options", "to", "status"),
    [
        ({"images": "yes"}, "cvat", 400),
        ({"speed": 1}, "cvat", 400),
        ({"thin": "x"}, "cvat", 400),
        ({"targets": [None]}, "cvat", 400),
        ({"targets": [77]}, "cvat", 404),
        ({"first_pixel": True}, "mot", 400),
        ([], "cvat", 400),
        ({}, "../cvat", 400),
        ({"thin": 0.9}, "yolo", 422),
        ({"ignore_uncertain": True}, "yolo", 422),
        ({"targets": []}, "cvat", 409),
    ],
    ids=str,
)
def test_exports_that_cannot_be(client: Client, options, to: str, status: int) -> None:
    client.draw(0, [10, 10, 20, 20])
    assert client.ask("/api/clips/0/export", {"format": to, "options": options})[0] == status


def archive(**files: bytes) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as made:
        for name, data in files.items():
            # With the same date always: the bytes are in the names of tests.
            made.writestr(zipfile.ZipInfo(name), data, zipfile.ZIP_DEFLATED)
    return content.getvalue()


def link() -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as made:
        entry = zipfile.ZipInfo("gt/gt.txt")
        entry.external_attr = 0o120777 << 16
        made.writestr(entry, "/etc/passwd")
    return content.getvalue()


BOMB = b'<!DOCTYPE a [<!ENTITY b "ha"><!ENTITY c "&b;&b;&b;">]><annotations>&c;</annotations>'
OUTSIDE = b'<!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/passwd">]><annotations>&b;</annotations>'


@pytest.mark.parametrize(
    ("name", "content", "status"),
    [
        ("a.csv", b"nonsense", 422),
        ("a.csv", b"", 422),
        ("a.csv", table(range(0, 0)), 422),
        ("a.csv", table(range(25, 40)), 422),  # of a longer clip
        ("a.csv", table(range(3)).replace(b"20.0000", b"5000.0"), 422),
        ("a.xml", BOMB, 422),
        ("a.xml", OUTSIDE, 422),
        ("a.xml", b"\n" + BOMB.decode().encode("utf-16"), 422),
        ("a.json", b"[" * 100_000, 422),
        ("a.zip", archive(**{"../../gt/gt.txt": b"1"}), 422),
        ("a.zip", archive(**{"/gt/gt.txt": b"1"}), 422),
        ("a.zip", archive(**{"gt\\gt.txt": b"1"}), 422),
        ("a.zip", archive(**{"C:/gt.txt": b"1"}), 422),
        ("a.zip", archive(**{"annotations.xml": BOMB}), 422),
        ("a.zip", archive(**{"gt/gt.txt": b"0" * 5_000_000}), 422),
        ("a.zip", archive(), 422),
        ("a.zip", archive(a=b"1")[:-9], 422),
        ("a.zip", link(), 422),
        ("..%2Fa.csv", table(range(3)), 400),
        ("a%0A.csv", table(range(3)), 400),
        ("a" * 121, table(range(3)), 400),
        ("", table(range(3)), 400),
        ("a.csv&thin=nan", table(range(3)), 400),
        ("a.csv&thin=x", table(range(3)), 400),
        ("a.csv&format=mot-det", table(range(3)), 400),
    ],
)
def test_files_that_are_not_taken_in(client: Client, name: str, content, status: int) -> None:
    before = client.get("/api/clips/0")["revision"]
    found, answer, _ = client.ask(f"/api/clips/0/import?name={name}", content)
    assert found == status, answer
    assert "/tmp" not in answer["error"]["message"] and "--" not in answer["error"]["message"]
    assert client.get("/api/clips/0")["revision"] == before


def test_an_archive_that_lies_about_its_size(client: Client, monkeypatch) -> None:
    monkeypatch.setattr(exchange, "MAX_UNPACKED_BYTES", 50)
    monkeypatch.setattr(exchange, "_check_members", lambda *given: None)
    status, answer, _ = client.ask("/api/clips/0/import?name=a.zip", archive(a=b"1" * 60))
    assert status == 422 and "more than it says" in answer["error"]["message"]


def test_old_exports_go(client: Client, monkeypatch) -> None:
    monkeypatch.setattr(exchange, "KEPT_EXPORTS", 1)
    client.draw(0, [10, 10, 20, 20])
    first, _ = fetch(client, "csv")
    fetch(client, "csv")
    assert client.ask(f"/api/exports/{first['export']}")[0] == 404


# --- Starting again ------------------------------------------------------------------------------


def test_work_is_there_after_a_restart_and_another_clip_is_not_touched(clip, tmp_path) -> None:
    mine = tmp_path / "mine.mp4"
    shutil.copy(clip, mine)
    with served([mine, tmp_path / "missing.mp4"], tmp_path) as (client, studio):
        target = client.draw(3, [10, 10, 20, 20])
        listed = client.get("/api/session")["clips"]
        assert listed[1]["state"] == "failed" and "missing.mp4" in listed[1]["error"]
        assert client.get("/api/clips/0")["clip"]["searchable"] is True
        status, content, _ = client.ask("/api/clips/1")
        assert (status, content["error"]["code"]) == (409, "opening")
        studio.clips[0].store.state.runs.clear()
    before = {p: p.read_bytes() for p in (tmp_path / "project0").glob("*.json*")}

    # A copy with another time is the same clip; other pixels are another one.
    shutil.copyfile(mine, tmp_path / "copy.mp4")
    shutil.move(tmp_path / "copy.mp4", mine)
    with served([mine], tmp_path) as (client, _):
        snapshot = client.get("/api/clips/0")
        assert snapshot["read_only"] is None and snapshot["targets"][0]["keys"][0]["frame"] == 3
    write_clip(mine, COUNT + 5)
    with served([mine], tmp_path) as (client, _):
        snapshot = client.get("/api/clips/0")
        assert "another file" in snapshot["read_only"]
        revision = {"revision": snapshot["revision"]}
        for path, body in (
            ("ops", {**revision, "ops": [{"op": "add_target"}]}),
            ("undo", revision),
            ("runs", {"targets": [target], "frame": 3, "direction": "forward"}),
        ):
            status, content, _ = client.ask(f"/api/clips/0/{path}", body)
            assert (status, content["error"]["code"]) == (423, "read_only")
    kept = {p: p.read_bytes() for p in (tmp_path / "project0").glob("*.json*")}
    assert (
        json.loads(before[tmp_path / "project0" / "project.json"])["targets"]
        == (json.loads(kept[tmp_path / "project0" / "project.json"])["targets"])
    )
    with served([mine], tmp_path) as (client, _):
        linked = client.post("/api/clips/0/relink", {})
        assert linked["read_only"] is None and linked["clip"]["frames"] == COUNT + 5
        client.draw(33, [10, 10, 20, 20], target)
    with served([mine], tmp_path) as (client, _):
        assert client.get("/api/clips/0")["read_only"] is None


def test_a_studio_that_ends_before_the_clip_is_open_leaves_no_trace(clip, tmp_path) -> None:
    folder, setup = tmp_path / "project0", {"weights": None, "engine": "auto", "options": {}}
    with Studio([str(clip)], [folder], setup, ("tests", "hash")) as studio:
        studio.prepare()
    assert not (folder / "project.json").exists()
    with served([clip], tmp_path) as (client, _):
        assert client.get("/api/clips/0")["read_only"] is None


def test_nothing_is_left_in_the_temporary_folder(clip, tmp_path, monkeypatch) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    with served([clip], tmp_path) as (client, _):
        client.draw(0, box_in(0))
        # One that is killed now leaves nothing.
        assert not list(scratch.iterdir())
        made = client.post("/api/clips/0/export", {"format": "csv"})
        assert client.ask(f"/api/exports/{made['export']}")[0] == 200
        (folder,) = scratch.iterdir()
        assert folder.stat().st_mode & 0o077 == 0  # nobody else may read it
    assert not list(scratch.iterdir())


def test_a_folder_of_pictures_is_a_clip(tmp_path, write_picture) -> None:
    for number in range(3):
        write_picture(tmp_path / "pictures" / f"{number}.png", wh=(40, 30), gray=50 * number)
    with served([tmp_path / "pictures"], tmp_path) as (client, _):
        _, data, _ = client.ask("/api/clips/0/frames/2?png=1")
        assert cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR).mean() == 100
        assert len(client.get("/api/clips/0/times")["times_s"]) == 3


def test_the_pass_over_the_clip_is_kept(clip: Path, tmp_path: Path) -> None:
    with served([clip], tmp_path) as (client, studio):
        page = Events(client)
        try:
            index = studio.clips[0]._frames.index
            if (index.fingerprints < 0).any():
                page.wait_for("scan", done=COUNT)
                page.wait_for("clip")
        finally:
            page.close()
    with served([clip], tmp_path) as (client, studio):
        assert (studio.clips[0]._frames.index.fingerprints >= 0).all()
        with ThreadPoolExecutor(4) as pool:
            paths = [f"/api/clips/0/frames/{k}" for k in (29, 3, 17, 8)]
            assert {reply[0] for reply in pool.map(client.ask, paths)} == {200}
