"""How a data set becomes training pairs.

Reading order:

1. sequence: `VideoSequence`, one target through its frames, and `Dataset`, many of them.
2. formats: one file per layout on disk.
3. datasets: `open_dataset("kind:root?option=value")` chooses the format.
4. check: everything that is wrong with a data set, found at once.
5. cache: crops of all targets, cut once (`siamtrack prepare`).
   packed: as much of it as fits into one small file (`siamtrack pack-cache`).
6. pairs: `PairDataset`, exemplar and search image with boxes, drawn from the cache.
7. augment: color, degradation and pasted objects of a pair.
8. hard_pairs: search images made harder.
9. batched: the same pairs for a whole batch at once, on a GPU.
10. show: a picture of pairs (`siamtrack show-pairs`).

synthetic renders clips with exact boxes, and pseudo finds boxes in clips that have none; `folder`
opens both.
"""
