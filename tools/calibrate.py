"""Fit the score of weights to sequences they have never seen, and write it into their card.

python tools/calibrate.py siamtrack-lite0 folder:clips folder:more --plot reliability.png
"""

import argparse
import sys

from siamtrack.api import load
from siamtrack.data.datasets import open_dataset
from siamtrack.errors import SiamTrackError
from siamtrack.evaluation import calibration as c
from siamtrack.evaluation.report.plots import save_reliability


def main(argv: list[str] | None = None) -> int:
    """Calibrate the named weights, or judge the score they have."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("weights", help="name or file")
    parser.add_argument("specs", metavar="KIND:ROOT", nargs="+", help="data sets with truth")
    parser.add_argument("--plot", metavar="FILE.png", help="reliability diagram to write")
    parser.add_argument("--check", action="store_true", help="judge the present score, fit none")
    args = parser.parse_args(argv)
    try:
        loop, data = load(args.weights), [s for spec in args.specs for s in open_dataset(spec)]
        curves, seen, found = c.curves_of(loop.engine, loop.options, data, check=args.check)
        if args.plot:
            save_reliability(args.plot, curves, seen.good, seen.weights)
        if not args.check:
            c.write(args.weights, found)
    except SiamTrackError as error:
        print(f"calibrate: error: {error}", file=sys.stderr)
        return error.exit_code
    for name, scores in curves.items():
        print(f"{name}: expected calibration error {c.error_of(scores, seen):.3f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
