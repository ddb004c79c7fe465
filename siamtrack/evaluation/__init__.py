"""Evaluation: run trackers over data sets with ground truth and say how good they are.

Where to look:

- `protocols`, `metrics`, `scores`, `statistics`: what is computed, pure functions of boxes;
- `benchmarks`, `toolkit`, `clips`: data sets with their annotations; `toolkit` alone knows got10k;
- `specs`, `rivals`: trackers by name;
- `variants`, `loops`: how a tracker is run over one sequence;
- `store`: result files; `plan`: what is left to do;
- `worker`, `pool`, `cluster`: running in processes, here or on other machines;
- `report`: the page, plots and tables made from result files.
"""
