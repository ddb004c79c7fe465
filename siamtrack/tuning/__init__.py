"""Search of the tracker's options on sequences with truth, and an honest figure for what it found.

- `ranges`: which options are searched, from where to where;
- `judging`: success AUC of options on every sequence, sequences spread over processes;
- `study`: the search itself, which goes on where it was stopped;
- `crossvalidation`: what the choice is worth on sequences that had no part in it;
- `report`: trials.json, tuning.md and tuning.png;
- `run`: all of it in one call.

The best of many trials looks better than it is: part of its lead is luck with these sequences. Of
every trial the AUC of each sequence is kept, so that the choice can be repeated on part of the
sequences and judged on the rest without tracking anything again.
"""
