"""Where each millisecond of a frame goes, for every engine and thread count.

Reading order:

- `stages`: the clip, what is timed on it, and the turns in which that happens;
- `report`: one benchmark from configuration to tables;
- `clips`: whole clips of a data set instead, as users run them.
"""
