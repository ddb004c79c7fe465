"""What `siamtrack convert` writes, read by the programs it is for.

Datumaro and the VOT toolkit are installed by `make readers-check`, which prints the errors, and
asked only where they are there; the others are installed with the tests.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from siamtrack.data.convert import FORMATS
from siamtrack.data.formats.mot import write_mot, write_mot_results
from siamtrack.data.formats.tracks import ClipTracks
from siamtrack.video.tables import TableRow

SIZE = (640, 360)
FRAMES = 12
LABELS = ("ball", "car", "Fußgänger")

Boxes = dict[tuple[int, int], tuple[float, ...]]
"""Box x, y, w, h by frame and target."""

pytestmark = [
    # Readers leave pictures open and warn of each other's versions.
    pytest.mark.filterwarnings("ignore"),
]


@pytest.fixture(scope="module")
def clip() -> ClipTracks:
    """Three targets with fractions of px, gaps, and boxes at every border."""
    rng = np.random.default_rng(5)
    rows = []
    for target, label in enumerate(LABELS):
        for frame in range(FRAMES):
            if target == 1 and frame in (0, 4, 5, 11):
                continue
            x, y = rng.uniform(0, 500), rng.uniform(0, 250)
            w, h = rng.uniform(5, 140), rng.uniform(5, 110)
            if target == 2:
                x, y, w, h = (0, 0, 30.5, 20.25) if frame % 2 else (600.5, 300.25, 39.5, 59.75)
            rows.append(TableRow(frame, target, (x, y, w, h), label=label))
    return ClipTracks.of(rows, name="clip", frame_wh=SIZE, frame_count=FRAMES, fps=25.0)


@pytest.fixture
def written(clip: ClipTracks, tmp_path: Path) -> Callable[[str], Path]:
    """Write the clip in a format, with black pictures where the format has a place for them."""

    def write(name: str) -> Path:
        known, folder = FORMATS[name], tmp_path / name
        assert known.write is not None
        for file, text in known.write(clip, first_pixel=known.first_pixel).items():
            (folder / file).parent.mkdir(parents=True, exist_ok=True)
            (folder / file).write_text(text, encoding="utf-8")
        picture = cv2.imencode(".jpg", np.zeros((SIZE[1], SIZE[0], 3), np.uint8))[1].tobytes()
        for sequence in ("clip.0", "clip.1", "clip.2") if name == "got10k" else ("",):
            place = (known.image or "").replace("{name}", sequence)
            for frame in range(FRAMES if place else 0):
                file = folder / (place % (frame + known.first_image))
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(picture)
        return folder

    return write


def expected(clip: ClipTracks) -> Boxes:
    return {(row.frame, row.target): row.box for row in clip.rows}


def largest_error(found: Boxes, clip: ClipTracks) -> float:
    """Of a corner or a side, in px; the same frames and targets must be there."""
    want = expected(clip)
    assert found.keys() == want.keys()
    error = max(float(np.abs(np.subtract(found[key], want[key])).max()) for key in want)
    print(f"largest error {error:.6f} px")  # for the table in docs/formats.md
    return error


def frame_of(name: str) -> int:
    return int(Path(name).stem.rpartition("_")[2])


# --- Installed with the tests


@pytest.mark.parametrize("name", ["coco", "yolo", "voc"])
def test_supervision(written: Callable[[str], Path], clip: ClipTracks, name: str) -> None:
    sv = pytest.importorskip("supervision")
    folder = written(name)
    with contextlib.redirect_stderr(io.StringIO()):
        if name == "coco":
            dataset = sv.DetectionDataset.from_coco(
                str(folder / "images"), str(folder / "annotations.json")
            )
        elif name == "yolo":
            dataset = sv.DetectionDataset.from_yolo(
                str(folder / "images/train"),
                str(folder / "labels/train"),
                str(folder / "data.yaml"),
            )
        else:
            dataset = sv.DetectionDataset.from_pascal_voc(
                str(folder / "JPEGImages"), str(folder / "Annotations")
            )
    found: Boxes = {}
    for path, _, detections in dataset:
        for (left, top, right, bottom), kind in zip(
            detections.xyxy.tolist(), detections.class_id.tolist(), strict=True
        ):
            target = LABELS.index(dataset.classes[kind])
            found[frame_of(path), target] = (left, top, right - left, bottom - top)
    assert len(dataset) == FRAMES
    assert largest_error(found, clip) < 0.005


def test_the_got10k_toolkit(written: Callable[[str], Path], clip: ClipTracks) -> None:
    from got10k.datasets import GOT10k

    with contextlib.redirect_stdout(io.StringIO()):
        dataset = GOT10k(str(written("got10k")), subset="val", return_meta=True)
    assert len(dataset) == len(LABELS)
    found: Boxes = {}
    for target, (files, boxes, meta) in enumerate(dataset):
        assert len(files) == FRAMES and meta["object_class"] == LABELS[target]
        for frame, (box, absent) in enumerate(zip(boxes.tolist(), meta["absence"], strict=True)):
            if not absent:
                found[frame, target] = tuple(box)
    assert largest_error(found, clip) < 1e-4


def test_siamtrack_s_own_data_sets(written: Callable[[str], Path], clip: ClipTracks) -> None:
    from siamtrack.data.datasets import open_dataset

    got = open_dataset(f"got10k:{written('got10k')}?subset=val&first_pixel=0")
    found: Boxes = {
        (frame, target): tuple(box)
        for target, sequence in enumerate(got)
        for frame, box in enumerate(sequence.boxes.tolist())
        if sequence.visible[frame]
    }
    assert largest_error(found, clip) < 1e-4
    for name in ("yolo", "voc", "coco"):
        stills = open_dataset(f"{name}:{written(name)}")
        boxes: Boxes = {}
        for still in stills:
            target = LABELS.index(still.class_name)
            boxes[frame_of(still.name.partition("#")[0]), target] = tuple(still.boxes[0].tolist())
        assert largest_error(boxes, clip) < 0.005


# --- Datumaro and the VOT toolkit by `make readers-check` alone, the others with all tests


@pytest.mark.parametrize(
    ("name", "reader", "path"),
    [
        ("cvat", "cvat", "annotations.xml"),
        ("mot", "mot_seq", ""),
        ("coco", "coco", ""),
        ("datumaro", "datumaro", ""),
    ],
)
def test_datumaro(
    written: Callable[[str], Path], clip: ClipTracks, name: str, reader: str, path: str
) -> None:
    datumaro = pytest.importorskip("datumaro")
    folder = written(name)
    if name == "coco":  # its layout wants annotations/instances_*.json
        (folder / "annotations").mkdir()
        (folder / "annotations.json").rename(folder / "annotations" / "instances_default.json")
        (folder / "images").rename(folder / "images_")
        (folder / "images").mkdir()
        (folder / "images_").rename(folder / "images" / "default")
    dataset = datumaro.Dataset.import_from(str(folder / path), reader)
    labels = [label.name for label in dataset.categories()[datumaro.AnnotationType.label]]
    found: Boxes = {}
    for item in dataset:
        frame = item.attributes.get("frame")
        if name == "mot":
            frame = int(item.id) - 1
        elif name == "coco":
            frame = frame_of(item.id)
        for box in item.annotations:
            if box.attributes.get("outside"):
                continue
            target = LABELS.index(labels[box.label])
            found[int(frame), target] = tuple(float(v) for v in box.get_bbox())
    assert largest_error(found, clip) <= 0.0101


@pytest.mark.parametrize("name", ["cvat", "mot", "label-studio"])
def test_dagshub_annotation_converter(
    written: Callable[[str], Path], clip: ClipTracks, name: str
) -> None:
    pytest.importorskip("dagshub_annotation_converter")
    from dagshub_annotation_converter.converters import cvat, label_studio_video, mot

    folder = written(name)
    if name == "cvat":
        sequence = cvat.load_cvat_from_xml_file(folder / "annotations.xml")
    elif name == "mot":
        sequence, _ = mot.load_mot_from_dir(folder)
    else:
        import json

        from dagshub_annotation_converter.formats.label_studio.task import parse_ls_task

        (task,) = json.loads((folder / "tasks.json").read_text(encoding="utf-8"))
        sequence = label_studio_video.ls_video_task_to_video_ir(parse_ls_task(json.dumps(task)))
    found: Boxes = {}
    for track in sequence.tracks:
        for box in track.annotations:
            if not box.is_visible:
                continue
            target = LABELS.index(box.ensure_has_one_category())
            box = box.denormalized() if name == "label-studio" else box
            found[box.frame_number, target] = (box.left, box.top, box.width, box.height)
    assert largest_error(found, clip) <= 0.0101


def test_pycocotools(written: Callable[[str], Path], clip: ClipTracks) -> None:
    coco_module = pytest.importorskip("pycocotools.coco")
    with contextlib.redirect_stdout(io.StringIO()):
        coco = coco_module.COCO(str(written("coco") / "annotations.json"))
    found: Boxes = {
        (coco.imgs[entry["image_id"]]["frame_index"], entry["track_id"] - 1): tuple(entry["bbox"])
        for entry in coco.loadAnns(coco.getAnnIds())
    }
    assert largest_error(found, clip) < 1e-4


def test_trackeval(clip: ClipTracks, tmp_path: Path) -> None:
    """Truth and results are of the same boxes, so every score is 1."""
    trackeval = pytest.importorskip("trackeval")
    same = replace(clip, rows=tuple(replace(row, label="pedestrian") for row in clip.rows))
    truth, results = write_mot(same), write_mot_results(same)
    for name, text in {
        "gt/seqmaps/siam-test.txt": "name\nclip\n",
        "gt/siam-test/clip/seqinfo.ini": truth["seqinfo.ini"],
        "gt/siam-test/clip/gt/gt.txt": truth["gt/gt.txt"],
        "trackers/siam-test/ours/data/clip.txt": results["results.txt"],
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    quiet = {"PRINT_CONFIG": False}
    evaluation = trackeval.Evaluator.get_default_eval_config() | quiet
    evaluation |= {
        "USE_PARALLEL": False, "PRINT_RESULTS": False, "OUTPUT_SUMMARY": False,
        "OUTPUT_DETAILED": False, "PLOT_CURVES": False, "TIME_PROGRESS": False,
        "BREAK_ON_ERROR": True, "LOG_ON_ERROR": None,
    }  # fmt: skip
    reader = trackeval.datasets.MotChallenge2DBox
    data = reader.get_default_dataset_config() | quiet
    data |= {
        "GT_FOLDER": str(tmp_path / "gt"), "TRACKERS_FOLDER": str(tmp_path / "trackers"),
        "BENCHMARK": "siam", "SPLIT_TO_EVAL": "test", "DO_PREPROC": False,
        "TRACKERS_TO_EVAL": ["ours"], "CLASSES_TO_EVAL": ["pedestrian"],
    }  # fmt: skip
    with contextlib.redirect_stdout(io.StringIO()):
        scores, _ = trackeval.Evaluator(evaluation).evaluate(
            [reader(data)], [trackeval.metrics.HOTA(), trackeval.metrics.CLEAR(quiet)]
        )
    found = scores["MotChallenge2DBox"]["ours"]["clip"]["pedestrian"]
    assert np.allclose(found["HOTA"]["HOTA"], 1) and found["CLEAR"]["MOTA"] == 1
    assert found["CLEAR"]["CLR_TP"] == len(clip.rows)


def test_the_vot_toolkit(written: Callable[[str], Path], clip: ClipTracks) -> None:
    region_io = pytest.importorskip("vot.region.io")
    found: Boxes = {}
    for target in range(len(LABELS)):
        regions = region_io.read_trajectory(str(written("vot") / f"groundtruth_{target:03d}.txt"))
        for frame, region in enumerate(regions):
            if hasattr(region, "width") and np.isfinite(region.width):
                found[frame, target] = (region.x, region.y, region.width, region.height)
    assert largest_error(found, clip) < 1e-4
