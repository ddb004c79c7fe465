"""The training pairs of `siamtrack.data.pairs` once more, for a whole batch at once on a GPU.

`PairDataset` makes one pair after the other with OpenCV, in as many processes as it takes: a GPU
that trains thousands of pairs a second would wait for it. Here the crops of a cache lie on the
device, all choices of a batch are drawn as tensors, and every change of the images is one operation
on the batch. The options and what they mean are the same; which pairs a seed makes is not.

What is drawn is drawn on the CPU: the numbers are few, all devices make the same pairs, and no
operation has to wait for the device to say which images it is for. Images are float32 (B, S, S, 3)
RGB in 0 to 255 until the last step, boxes float64 (B, 4) xywh on the CPU.

Reading order:

1. dice: random numbers as tensors.
2. crops: `DeviceCrops`, the crops on the device, and the sampling of windows of them.
3. draws: which tracks, frames and other objects.
4. windows: which part of a crop, and what lies outside of it.
5. objects: pasted objects.
6. hard: search images made harder.
7. colors: colors and sharpness.
8. jpeg: what JPEG compression does to images.
9. pairs: `BatchedPairs`, a batch from top to bottom.
"""
