"""Search the tracker options of weights on sequences with truth, cross-validated over sequences.

python tools/tune.py runs/tune folder:clips --weights siamtrack-lite0 --trials 100 --workers 4
"""

from __future__ import annotations

import argparse
import sys
from functools import partial
from pathlib import Path

from siamtrack.errors import SiamTrackError
from siamtrack.tuning.search import tune


def main(argv: list[str] | None = None) -> int:
    """Search, and print the table; the same command goes on with a search that was stopped."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("out", type=Path, help="folder of the search")
    parser.add_argument("sequences", metavar="KIND:ROOT", help="data set to tune on")
    parser.add_argument("--weights", default="siamtrack-lite0", help="name or file")
    add_list = partial(parser.add_argument, action="append", default=[])
    add_list("--set", dest="assignments", metavar="OPTION=VALUE", help="in every trial")
    add_list("--range", dest="ranges", metavar="OPTION=LOW:HIGH[:STEP]", help="what is searched")
    parser.add_argument("--ranges-file", type=Path, help="TOML with lines option = [low, high]")
    numbers = {"trials": 100, "folds": 5, "workers": 1, "seed": 0}
    for name, default in {**numbers, "max-frames": 0, "memory-mb": 3000}.items():
        parser.add_argument(f"--{name}", type=int, default=default, help=f"default {default}")
    try:
        print(tune(**vars(parser.parse_args(argv)), progress=True).read_text(), end="")
    except SiamTrackError as error:
        print(f"tune: error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
