"""Evaluation: run trackers over data sets with ground truth and say how good they are.

What is computed, pure functions of boxes:

- `protocols` (what counts where), `metrics`, `scores`, `vot`, `statistics`.

On what:

- `benchmarks` (data sets by name), `sequence`, `clips`, `attributes`, and `toolkit`, which alone
  knows got10k.

Of which trackers:

- `specs` (trackers by name), `rivals`, `identity` (what results are keyed by).

How they are run:

- `evaluate` (check, plan, run), `variants`, `corruptions` and `loops` (one tracker over one
  sequence), `plan` (what is left to do), `store` (result files), `worker`, `process`, `pool`,
  `cluster` (processes, here and elsewhere), `progress`.

What comes out:

- `scoring` (result files to figures), `report` (page, plots, tables), `submission`, and `compare`
  for one video.
"""
