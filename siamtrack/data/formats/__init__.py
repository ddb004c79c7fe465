"""One file per layout on disk; each opens it as a `Dataset` with the boxes of `sequence`.

Reading order: folder (your own clips), pack (the siamtrack pack), objects (what the formats of
still images share), then coco, voc and yolo; benchmarks holds ten tracking benchmarks.
"""
