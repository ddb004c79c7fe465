"""Candidate boxes of a frame, without annotation: what moves against the camera, what stands out.

Motion: dense flow to a frame before and one after, minus the flow of the background, a homography
fitted to sparse points (RANSAC). The smaller of the two residuals is taken: a strip of background
that is covered or uncovered has no match in one of the two frames only. Connected regions that
move against the background are cut out exactly by their colors (GrabCut, Rother et al. 2004).

Saliency: distance of a pixel's color from the colors along the frame's border (Mahalanobis
distance in Lab, the boundary prior of Zhang et al. 2015, "Minimum barrier salient object detection
at 80 FPS", section 4).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

from siamtrack.geometry import clip_to_frame, iou
from siamtrack.types import BoolArray, Float32Array, FloatArray, Image

Cue: TypeAlias = Literal["motion", "saliency"]

WORK_SIDE_PX = 320
"""Frames are examined at this long side."""
MIN_SIDE_PX = 12
"""Shortest side of a candidate at that size; smaller regions are mostly noise of the flow."""
MIN_RESIDUAL_PX = 0.8
"""Least motion against the background between two frames, at that size."""
MIN_MISMATCH = 8.0
"""Least difference, in gray levels, of a moving pixel from the background in its place."""
NOISE_RATIO = 3.0
"""How much faster than the median pixel a region must move against the background."""
AREA = (0.004, 0.4)
"""Least and largest part of the frame that a candidate covers."""
MIN_FILL = 0.4
"""Least part of its box that a region fills."""
MIN_CUE_IOU = 0.6
"""Least overlap of the moving region and what GrabCut makes of it."""
MIN_CAMERA_PX = 0.3
"""Least mean speed of the background, at that size, of a camera that moves."""
MIN_CONTRAST, MIN_SALIENCY = 0.4, 0.3
"""Least contrast of a salient region to its surroundings, in [0, 1]; and least contrast x fill."""
MIN_MOVING, MIN_SALIENT = 0.3, 0.5
"""Least part of a box that moves, or is salient, where the cue supports that it holds an object."""
SAME_IOU = 0.4
"""Candidates that overlap by more are one."""

_BORDER = 0.08  # width of the border that counts as background, as a part of the short side
_MIN_FRAME_PX = 32  # short side of the shrunken frame; DIS fails on a few rows
_COLOR_NOISE = 25.0  # variance of colors within one thing, in Lab levels
_POINTS, _MIN_POINTS, _RANSAC_PX = 600, 24, 1.5
_MIN_INLIERS = 0.15  # least part of the points that follow the background's motion


@dataclass(frozen=True, slots=True)
class Candidate:
    """A box that may hold an object."""

    box_xywh: FloatArray  # (4,) frame px
    cue: Cue
    score: float  # in [0, 1], comparable within one cue


@dataclass(frozen=True, slots=True)
class FrameCues:
    """What a frame says of objects in it; the masks are those of the shrunken frame."""

    candidates: tuple[Candidate, ...]  # best first, those by motion before those by saliency
    moving: BoolArray  # (h, w) moves against the background
    salient: BoolArray  # (h, w) stands out; all false where the camera is at rest
    scale: float  # px of the masks per px of the frame

    def support(self, box_xywh: FloatArray) -> bool:
        """Whether something moves or stands out in a box, (4,) frame px."""
        height, width = self.moving.shape
        inside = clip_to_frame(box_xywh * self.scale, (width, height))
        corners = np.rint([*inside[:2], *(inside[:2] + inside[2:])]).astype(int)
        left, top, right, bottom = corners.tolist()
        area = max((right - left) * (bottom - top), 1)
        moving = np.count_nonzero(self.moving[top:bottom, left:right])
        salient = np.count_nonzero(self.salient[top:bottom, left:right])
        # A salient background is around the box as well.
        around = _around(inside, self.salient.shape)
        around[top:bottom, left:right] = False
        outside = float(self.salient[around].mean()) if around.any() else 0.0
        return bool(
            moving >= MIN_MOVING * area
            or (salient >= MIN_SALIENT * area and outside <= MIN_SALIENT * salient / area)
        )


@dataclass(frozen=True, slots=True)
class FrameMotion:
    """How a frame moves, at `WORK_SIDE_PX`."""

    residual_px: Float32Array  # (h, w) speed against the background
    mismatch: Float32Array  # (h, w) gray levels that the background's motion leaves unexplained
    camera_px: float  # mean speed of the background


def shrink(frame_bgr: Image, long_side_px: int) -> tuple[Image, float]:
    """A frame with a shorter long side (never enlarged), and its px per px of the frame."""
    scale = min(1.0, long_side_px / max(frame_bgr.shape[:2]))
    if scale == 1.0:
        return frame_bgr, 1.0
    wh = [max(8, round(side * scale)) for side in frame_bgr.shape[1::-1]]
    return np.asarray(cv2.resize(frame_bgr, wh, interpolation=cv2.INTER_AREA), np.uint8), scale


def measure_motion(before: Image, frame: Image, after: Image) -> FrameMotion | None:
    """Motion of `frame` against the camera's, from shrunken uint8 (h, w, 3) frames.

    Returns:
        None where no background can be told from the rest.
    """
    if min(frame.shape[:2]) < _MIN_FRAME_PX:
        return None
    gray, *others = (cv2.cvtColor(f, cv2.COLOR_BGR2GRAY) for f in (frame, before, after))
    points = cv2.goodFeaturesToTrack(gray, _POINTS, 0.001, 8)  # (n, 1, 2) x, y
    if points is None or len(points) < _MIN_POINTS:
        return None
    dis = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_FAST)
    residuals, mismatches = [], []
    camera = np.zeros((*gray.shape, 2), np.float32)
    for other in others:
        flow = np.asarray(dis.calc(gray, other, None), np.float32)  # type: ignore[call-overload]
        # The background's motion, from the flow at points with texture.
        columns, rows = points.reshape(-1, 2).astype(int).T
        moved = points.reshape(-1, 2) + flow[rows, columns]
        found, inliers = cv2.findHomography(
            points.reshape(-1, 2), moved, cv2.RANSAC, _RANSAC_PX, maxIters=500
        )
        if found is None or inliers.mean() < _MIN_INLIERS:
            return None
        homography = np.asarray(found, np.float64)
        camera = _flow_of(homography, gray.shape)
        residuals.append(np.linalg.norm(flow - camera, axis=2))
        how = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        warped = cv2.warpPerspective(
            other, homography, gray.shape[::-1], flags=how, borderMode=cv2.BORDER_REPLICATE
        )
        mismatches.append(cv2.absdiff(gray, warped).astype(np.float32))
    residual = np.minimum(*residuals).astype(np.float32)
    mismatch = np.minimum(*mismatches).astype(np.float32)
    return FrameMotion(residual, mismatch, float(np.linalg.norm(camera, axis=2).mean()))


def _flow_of(homography: FloatArray, shape: Sequence[int]) -> Float32Array:
    """(h, w, 2) displacement of every pixel under a homography."""
    x, y = np.meshgrid(np.arange(shape[1]), np.arange(shape[0]))
    moved = np.stack([x, y, np.ones_like(x)], axis=-1) @ homography.T
    flow = moved[..., :2] / moved[..., 2:] - np.stack([x, y], axis=-1)
    return np.asarray(flow, np.float32)


def moving_mask(motion: FrameMotion) -> BoolArray:
    """(h, w) pixels that move against the background."""
    residual = motion.residual_px
    threshold = max(MIN_RESIDUAL_PX, NOISE_RATIO * float(np.median(residual)))
    mask = (residual > threshold).astype(np.uint8)
    opened = cv2.morphologyEx(mask, cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
    closed = cv2.morphologyEx(opened, cv2.MORPH_CLOSE, np.ones((7, 7), np.uint8))
    return np.asarray(closed > 0)


def find_moving(
    small: Image, motion: FrameMotion, moving: BoolArray
) -> list[tuple[FloatArray, float]]:
    """Boxes of what moves against the background, in px of the shrunken frame, with scores."""
    found = []
    noise = float(np.median(motion.residual_px)) + 0.2
    # Flow is smooth: the region reaches beyond the object, and where there is no texture flow is
    # arbitrary. The object is where the background does not explain the pixels either.
    differs = motion.mismatch > MIN_MISMATCH + float(np.median(motion.mismatch))
    for region, _, _ in _regions(moving):
        speeds = motion.residual_px[region]
        fast = motion.residual_px > 0.5 * float(np.quantile(speeds, 0.8))
        silhouette = _fill((region & fast & differs).astype(np.uint8))
        for part, box, fill in _regions(silhouette):
            refined = _grab_cut(small, part, box)
            if refined is None:
                continue
            overlap = float(iou(refined, box))
            if overlap >= MIN_CUE_IOU:
                speed = float(np.median(speeds))
                found.append((refined, overlap * fill * speed / (speed + NOISE_RATIO * noise)))
    return found


def _fill(mask: NDArray[np.uint8]) -> BoolArray:
    """Close gaps, and fill what is enclosed."""
    closed = cv2.morphologyEx(mask, cv2.MORPH_CLOSE, np.ones((9, 9), np.uint8))
    outlines, _ = cv2.findContours(closed, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    filled = np.zeros_like(mask)
    cv2.drawContours(filled, outlines, -1, 1, cv2.FILLED)
    return np.asarray(cv2.morphologyEx(filled, cv2.MORPH_OPEN, np.ones((5, 5), np.uint8)) > 0)


def saliency(small: Image) -> NDArray[np.uint8]:
    """(h, w) how much the colors of a shrunken frame differ from those along its border."""
    lab = cv2.cvtColor(cv2.GaussianBlur(small, (0, 0), 2.0), cv2.COLOR_BGR2LAB).astype(np.float32)
    border = max(4, round(_BORDER * min(lab.shape[:2])))
    # The four sides are separate backgrounds, such as sky and floor: the nearest one counts.
    distances = []
    for side in (lab[:border], lab[-border:], lab[:, :border], lab[:, -border:]):
        pixels = side.reshape(-1, 3)
        whiten = np.linalg.cholesky(np.linalg.inv(np.cov(pixels.T) + _COLOR_NOISE * np.eye(3)))
        offset = (lab - pixels.mean(axis=0)) @ whiten.astype(np.float32)
        distances.append(np.linalg.norm(offset, axis=2))
    return np.clip(np.min(distances, axis=0) * 40, 0, 255).astype(np.uint8)


def salient_mask(gray: NDArray[np.uint8]) -> BoolArray:
    """(h, w) pixels of a saliency map that stand out (Otsu's threshold)."""
    _, binary = cv2.threshold(gray, 0, 255, cv2.THRESH_BINARY | cv2.THRESH_OTSU)
    return np.asarray(cv2.morphologyEx(binary, cv2.MORPH_OPEN, np.ones((5, 5), np.uint8)) > 0)


def find_salient(gray: NDArray[np.uint8], mask: BoolArray) -> list[tuple[FloatArray, float]]:
    """Boxes of what stands out in a saliency map, in px of the shrunken frame, with scores."""
    found = []
    for region, box, fill in _regions(mask):
        ring = _around(box, mask.shape)
        inside, outside = float(gray[region].mean()), float(gray[ring & ~region].mean())
        contrast = (inside - outside) / (inside + outside + 1.0)
        if contrast > MIN_CONTRAST and fill * contrast > MIN_SALIENCY:
            found.append((box, fill * contrast))
    return found


def _regions(mask: BoolArray) -> list[tuple[BoolArray, FloatArray, float]]:
    """Connected regions that may be objects: mask, xywh box, part of the box they fill."""
    count, labels, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8))
    found = []
    for label in range(1, count):
        x, y, w, h, area = (int(value) for value in stats[label])
        fill, share = area / (w * h), w * h / mask.size
        large = min(w, h) >= MIN_SIDE_PX and AREA[0] <= share <= AREA[1]
        box = np.array([x, y, w, h], np.float64)
        if large and fill >= MIN_FILL:
            found.append((labels == label, box, fill * _wholeness(box, mask.shape)))
    return found


def _wholeness(box_xywh: FloatArray, shape: Sequence[int]) -> float:
    """Half for a box at the border, where the rest of the object may be cut off; else 1."""
    x, y, w, h = box_xywh.tolist()
    is_inside = min(x, y) > 1 and x + w < shape[1] - 1 and y + h < shape[0] - 1
    return 1.0 if is_inside else 0.5


def _around(box_xywh: FloatArray, shape: Sequence[int]) -> BoolArray:
    """(h, w) pixels of a box that is half as large again."""
    x, y, w, h = box_xywh
    grown = clip_to_frame((x - w / 4, y - h / 4, 1.5 * w, 1.5 * h), (shape[1], shape[0]))
    left, top = grown[:2].astype(int)
    right, bottom = np.ceil(grown[:2] + grown[2:]).astype(int)
    ring = np.zeros(shape, bool)
    ring[top:bottom, left:right] = True
    return ring


def _grab_cut(small: Image, region: BoolArray, box: FloatArray) -> FloatArray | None:
    """Box of the object that a moving region belongs to, by color; None where there is none."""
    x, y, w, h = box
    window = clip_to_frame((x - w / 2, y - h / 2, 2 * w, 2 * h), (small.shape[1], small.shape[0]))
    left, top = window[:2].astype(int)
    right, bottom = np.ceil(window[:2] + window[2:]).astype(int)
    part = np.ascontiguousarray(small[top:bottom, left:right])
    here = region[top:bottom, left:right].astype(np.uint8)
    kernel = np.ones((3, 3), np.uint8)
    reach = max(2, round(0.12 * min(w, h)))
    core = cv2.erode(here, kernel, iterations=max(1, reach // 2))
    near = cv2.dilate(here, kernel, iterations=reach)
    labels = np.full(here.shape, cv2.GC_BGD, np.uint8)
    labels[near > 0] = cv2.GC_PR_BGD
    labels[here > 0] = cv2.GC_PR_FGD
    labels[core > 0] = cv2.GC_FGD
    if not core.any() or (near > 0).all():
        return None
    background, foreground = np.zeros((1, 65)), np.zeros((1, 65))
    cv2.setRNGSeed(0)
    cv2.grabCut(part, labels, None, background, foreground, 3, cv2.GC_INIT_WITH_MASK)  # type: ignore[call-overload]
    cut = ((labels == cv2.GC_FGD) | (labels == cv2.GC_PR_FGD)).astype(np.uint8)
    cut = np.asarray(cv2.morphologyEx(cut, cv2.MORPH_OPEN, kernel), np.uint8)
    count, _, stats, _ = cv2.connectedComponentsWithStats(cut)
    if count < 2:
        return None
    largest = 1 + int(stats[1:, cv2.CC_STAT_AREA].argmax())
    cx, cy, cw, ch = stats[largest, :4]
    return np.array([left + cx, top + cy, cw, ch], np.float64)


def find_cues(before: Image, frame: Image, after: Image) -> FrameCues | None:
    """Cues of a frame, from frames a little before and after it, uint8 (H, W, 3) BGR.

    Returns:
        None where nothing moves, camera included, or where no background can be told.
    """
    (small, scale), (earlier, _), (later, _) = (
        shrink(picture, WORK_SIDE_PX) for picture in (frame, before, after)
    )
    motion = measure_motion(earlier, small, later)
    if motion is None:
        return None
    moving = moving_mask(motion)
    if motion.camera_px < MIN_CAMERA_PX and not moving.any():
        return None
    found: list[tuple[Cue, FloatArray, float]] = []
    found += [("motion", *item) for item in find_moving(small, motion, moving)]
    # What stands out before a camera at rest does not move either, or motion has found it.
    salient = np.zeros_like(moving)
    if motion.camera_px >= MIN_CAMERA_PX:
        gray = saliency(small)
        salient = salient_mask(gray)
        found += [("saliency", *item) for item in find_salient(gray, salient)]
    candidates: list[Candidate] = []
    for cue, box, score in sorted(found, key=lambda item: (item[0], -item[2])):
        in_frame = box / scale
        if all(iou(in_frame, other.box_xywh) < SAME_IOU for other in candidates):
            candidates.append(Candidate(in_frame, cue, score))
    return FrameCues(tuple(candidates), moving, salient, scale)
