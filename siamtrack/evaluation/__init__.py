"""Evaluation: run trackers over data sets with ground truth, and say how good they are.

Reading order, along the way of one evaluation:

- `task`: `RunConfig` (the configuration), `Task` (one tracker over one sequence), `TaskResult`.
- `protocols`, `datasets`: what is evaluated on, and what counts there.
- `trackers`: trackers by name, and the keys of their results; `nanotrack`: the rival NanoTrackV3.
- `evaluate`: `prepare`, `run`, progress, archives for servers.
- `worker`, `cluster`: where tasks run, on `utils.workers` here or through Dask elsewhere.
- `runs`: one tracker over one sequence, in all variants.
- `store`: result files.
- `metrics`, `scores`, `vot`, `statistics`: from result files to figures.
- `many_targets`, `clip_worker`: clips with several targets, scored by TrackEval.
- `report`: page, plots, tables and failures of a report.

Beside that way: `verify` (the got10k toolkit scores the same files), `got10k_toolkit` (the one file
that imports it), `vot_server` (the VOT toolkit starts our tracker), `compare` (trackers side by
side on one video), `calibration` and `absence` (how reliable scores and statuses are), `key_frames`
(boxes a person must draw).
"""
