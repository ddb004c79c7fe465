"""Everything that touches the got10k toolkit 0.1.3, with its traps closed.

- `datasets`: its readers, without downloads, with the two that cannot be constructed repaired;
- `trackers`: its `Tracker` contract in both directions;
- `experiments`: its experiments, to score our result files with its own code.
"""
