"""Batches of training pairs, made on the device from top to bottom."""

from __future__ import annotations

import torch
import torch.utils.data
from numpy.random import SeedSequence
from torch import Tensor

from siamtrack.data.batched.colors import ColorChanges, degrade, turn_gray
from siamtrack.data.batched.crops import DeviceCrops, to_rows
from siamtrack.data.batched.dice import Dice
from siamtrack.data.batched.draws import CropDraws
from siamtrack.data.batched.hard import as_tiny, draw_tiny, harden
from siamtrack.data.batched.objects import draw_beside, draw_on_outline, paste_objects
from siamtrack.data.batched.windows import (
    CropWindows,
    cut_windows,
    draw_exemplar_windows,
    draw_search_windows,
    draw_turns,
)
from siamtrack.data.cache import CropCache
from siamtrack.data.pairs import FIRST_FRAME_WINDOWS, Pair, PairConfig, Part, part_weights


class BatchedPairs:
    """The endless sequence of batches that `seed` defines, with the labels of `PairDataset`.

    A batch is a pure function of the seed, the number of its first pair and its size, on any
    device: a run resumes in its middle. Only noise and rounding differ between kinds of devices.

    Args:
        cache: what to draw from.
        config: of the pairs.
        device: where the crops lie and the batches are made.
        exemplar_size_px: side of the exemplars.
        search_size_px: side of the search images.
        seed: of the sequence.
        part, held_out: which tracks, as for `PairDataset`.
        threads: that decode the crops, once.

    Raises:
        DatasetError: every track has weight 0, or no crop can be decoded.
        TrainingError: the device has too little memory for the crops.
    """

    def __init__(
        self,
        cache: CropCache,
        config: PairConfig,
        device: torch.device,
        *,
        exemplar_size_px: int = 128,
        search_size_px: int = 256,
        seed: int = 0,
        part: Part = "all",
        held_out: float = 0.0,
        threads: int = 1,
    ) -> None:
        self.config, self.device, self.seed = config, device, seed
        self.exemplar_size_px, self.search_size_px = exemplar_size_px, search_size_px
        weights = part_weights(cache, config, part, held_out)
        self._crops = DeviceCrops(cache, device, threads=threads)
        self._draws = CropDraws(cache, config, weights, self._crops.usable, self._crops.size_wh)

    @torch.no_grad()
    def batch(self, first: int, count: int) -> dict[str, Tensor]:
        """Make the pairs first to first + count - 1.

        Returns:
            What the loader makes of as many `Pair`s: images uint8 (B, 3, S, S) in channels-last
            memory, on the device as the rest, except for "index" and "skipped" on the CPU.
        """
        c, draws, memory = self.config, self._draws, self.config.memory
        state = SeedSequence((self.seed, first)).generate_state(1, "uint64")
        dice = Dice(int(state[0] >> 1))

        # 1. Two crops of one track, or for a negative an exemplar and another object.
        track = draws.tracks(dice, count)
        z_crop, x_crop = draws.frames(dice, track)
        positive = ~dice.chance(c.negative, count)

        def draw_windows(crop: Tensor) -> CropWindows:
            boxes = draws.boxes[crop]
            return draw_search_windows(boxes, c, self.exemplar_size_px, self.search_size_px, dice)

        other, other_windows = draws.negatives(dice, z_crop, draw_windows)
        x_crop = torch.where(positive, x_crop, other)
        windows = tuple(
            torch.where(positive[:, None], own, of_other)
            for own, of_other in zip(draw_windows(x_crop), other_windows, strict=True)
        )
        flip = dice.chance(c.flip, count)

        # 2. Exemplars: squares with context about the targets, a little off.
        box = draws.boxes[z_crop]
        z_windows = draw_exemplar_windows(box, c, self.exemplar_size_px, dice)
        z, z_box = cut_windows(
            self._crops, draws, z_crop, box, z_windows, self.exemplar_size_px, dice
        )  # z: (B, S, S, 3)

        # 3. Search images, and after them the windows of the online filter's memory, which are of
        #    the exemplar's frame or near it: window k of M of pair i is in row B + i M + k.
        frames = [z_crop if k < FIRST_FRAME_WINDOWS else draws.frames(dice, track)[1]
                  for k in range(memory)]  # fmt: skip
        pair = torch.arange(count)
        pair = torch.cat([pair, pair.repeat_interleave(memory)])  # of each row
        in_memory = torch.stack(frames, dim=1).flatten() if frames else x_crop[:0]
        crop = torch.cat([x_crop, in_memory])
        of_memory = draw_windows(in_memory)
        sized, shifted = (torch.cat([a, b]) for a, b in zip(windows, of_memory, strict=True))
        x, x_box, distractor = self._search_images(crop, (sized, shifted), track[pair], dice)

        # 4. Harder, if they show the target.
        harder = harden(
            x[:count], x_box[:count], distractor[:count], positive, track, c.hard,
            self._crops, draws, dice,
        )  # fmt: skip
        positive, distractor = harder.shows_target, harder.distractors
        if c.hard.tiny:
            tiny, factor = draw_tiny(z_box, c.hard.tiny, dice)
            for changed, of in ((z, torch.arange(count)), (x, pair)):
                rows = tiny[of].nonzero()[:, 0]
                as_tiny(changed, rows, factor[of][rows])

        # 5. Colors, partly alike in a pair, and sharpness.
        z, x = self._recolor(z, x, pair, dice)

        # 6. Flip exemplar and search image or neither, and each window of the memory by itself.
        flips = torch.cat([flip, dice.chance(c.flip, memory * count)])
        z, x = _flip(z, flip), _flip(x, flips)
        z_box = flip_boxes(z_box, flip, self.exemplar_size_px)
        x_box = flip_boxes(x_box, flips, self.search_size_px)
        has_distractor = distractor[:, 2] > 0
        distractor = flip_boxes(distractor, flip & has_distractor, self.search_size_px)

        z, x = (images.permute(0, 3, 1, 2).to(torch.uint8) for images in (z, x))  # (B, 3, S, S)
        windows_of = x[count:].unflatten(0, (count, memory))  # (B, M, 3, S, S)
        boxes_of = x_box[count:].unflatten(0, (count, memory))
        numbers = {
            "z_box": z_box.float(),
            "x_box": x_box[:count].float(),
            "positive": positive,
            "distractor_box": distractor.float(),
            "has_distractor": has_distractor,
            "memory_box": boxes_of.float(),
        }
        placed = {k: v.to(self.device, non_blocking=True) for k, v in numbers.items()}
        images = {"z": z, "x": x[:count], "memory": windows_of}
        index, skipped = torch.arange(first, first + count), torch.zeros(count, dtype=torch.int64)
        return images | placed | {"index": index, "skipped": skipped}

    def _search_images(
        self, crop: Tensor, windows: CropWindows, track: Tensor, dice: Dice
    ) -> tuple[Tensor, Tensor, Tensor]:
        """(B, S, S, 3) search images, their objects' boxes, and boxes of distractors or zeros."""
        a, draws, size, count = self.config.augment, self._draws, self.search_size_px, len(crop)

        # 1. Turn about the object, then cut the window.
        angle, box = draw_turns(draws.boxes[crop], self.config, dice)
        x, x_box = cut_windows(self._crops, draws, crop, box, windows, size, dice, angle)

        # 2. Annotated distractor. The boxes of other objects were not turned, so a turned image has
        #    none.
        found = draws.nearest_in_window(crop, x_box, size)
        found = torch.where((angle == 0)[:, None], found, 0.0)

        # 3. Pasted distractor, which replaces the annotated one. If it shows the search image's
        #    own object, it is pasted but labels nothing.
        rows = dice.chance(a.distractor, count).nonzero()[:, 0]
        other = draws.others(dice, track[rows])
        patches, room = draw_beside(x_box[rows], draws.boxes[other], size, dice)
        rows, other, patches = rows[room], other[room], patches.of(room)
        paste_objects(x, rows, self._crops, draws, other, patches)
        labels = ~draws.same_track(other, crop[rows])
        found[rows[labels]] = patches.boxes[labels]

        # 4. Pasted occluder.
        rows = dice.chance(a.occluder, count).nonzero()[:, 0]
        other = draws.others(dice, track[rows])
        patches = draw_on_outline(x_box[rows], draws.boxes[other], dice)
        paste_objects(x, rows, self._crops, draws, other, patches)
        return x, x_box, found

    def _recolor(self, z: Tensor, x: Tensor, pair: Tensor, dice: Dice) -> tuple[Tensor, Tensor]:
        """Change the colors of B exemplars and of x, whose pairs are `pair`; then degrade all."""
        a, count = self.config.augment, len(z)
        if a.color > 0:
            shared = ColorChanges.draw(dice, a.color * a.color_joint, count)
            own = a.color * (1 - a.color_joint)
            z = ColorChanges.draw(dice, own, count).apply(shared.apply(z))
            x = ColorChanges.draw(dice, own, len(x)).apply(shared.of(pair).apply(x))

        # All images of a pair are gray or none, since a video is gray as a whole.
        gray = dice.chance(a.gray, count)
        turn_gray(z, gray.nonzero()[:, 0])
        turn_gray(x, gray[pair].nonzero()[:, 0])
        for images in (z, x):
            degrade(images, a, dice)
        return z, x


class PairsOneByOne:
    """Pairs of `BatchedPairs` by their number, as `PairDataset` gives them; for looking at them.

    Args:
        pairs: the batches.
        batch_size: of the run whose pairs these are.
    """

    def __init__(self, pairs: BatchedPairs, batch_size: int) -> None:
        self.pairs, self.batch_size = pairs, batch_size
        self._first, self._batch = -1, dict[str, Tensor]()

    def __getitem__(self, index: int) -> Pair:
        """Make pair `index`; its neighbors are kept for the next call."""
        row = index % self.batch_size
        if index - row != self._first:
            self._first = index - row
            batch = self.pairs.batch(self._first, self.batch_size)
            self._batch = {name: values.cpu() for name, values in batch.items()}
        pair = {name: values[row] for name, values in self._batch.items()}
        return {**pair, "index": index, "skipped": 0}  # type: ignore[typeddict-item]


def flip_boxes(boxes: Tensor, flip: Tensor, width: int) -> Tensor:
    """Boxes (B, 4) xywh, mirrored in images of this width where `flip` (B,) is true."""
    mirrored = torch.cat([width - boxes[:, :1] - boxes[:, 2:3], boxes[:, 1:]], dim=1)
    return torch.where(flip[:, None], mirrored, boxes)


def _flip(images: Tensor, flip: Tensor) -> Tensor:
    """Images (B, S, S, 3), mirrored where `flip` (B,) is true."""
    return torch.where(to_rows(flip, images.device), images.flip(2), images)
