"""Search of tracker options on sequences with truth; cross-validation of what the choice gains.

Reading order:

- `search`: one search from start to recommendation;
- `ranges`: which options are searched, and where;
- `objective`: success AUC of one set of options, in worker processes;
- `study`: the Optuna study, resumable;
- `crossvalidation`: what choosing gains on sequences that had no part in it;
- `report`: trials.json, tuning.md and tuning.png.
"""
