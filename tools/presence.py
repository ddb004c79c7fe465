"""Measure how truthfully weights say that their target is gone, and how soon they find it again.

python tools/presence.py siamtrack-lite0 folder:exits folder:cuts --set lost_after=6
"""

import argparse
import sys

from siamtrack.api import load
from siamtrack.data.datasets import open_dataset
from siamtrack.errors import ConfigError, SiamTrackError
from siamtrack.evaluation.absence import PresenceReport, measure_presence
from siamtrack.utils.config import parse_value


def main(argv: list[str] | None = None) -> int:
    """Report on each data set, and on all of them."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("weights", help="name or file")
    parser.add_argument("specs", metavar="KIND:ROOT", nargs="+", help="data sets with absences")
    parser.add_argument("--set", action="append", default=[], metavar="OPTION=VALUE")
    args = parser.parse_args(argv)
    try:
        if bad := [text for text in args.set if "=" not in text]:
            raise ConfigError(f"{bad[0]!r} is not an assignment; give OPTION=VALUE")
        options = {
            name: parse_value(text) for name, _, text in (s.partition("=") for s in args.set)
        }
        tracker, total = load(args.weights, **options), PresenceReport()
        for spec in args.specs:
            report = measure_presence(tracker, open_dataset(spec))
            total += report
            print(spec, *report.lines(), sep="\n  ", flush=True)
    except SiamTrackError as error:
        print(f"presence: error: {error}", file=sys.stderr)
        return error.exit_code
    print("all", *total.lines(), sep="\n  ")
    return 0


if __name__ == "__main__":
    sys.exit(main())
