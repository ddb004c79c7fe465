"""Many clips in one go: here or on a Dask cluster, resumable, each failure by itself.

Reading order:

- `manifest`: which clips, with which boxes; everything wrong with them is found at once;
- `run`: what is still to do, the workers, and the files.

What a worker process does with one clip is `siamtrack.evaluation.clip_worker`.
"""
