"""Report everything that is wrong with data sets, one line each on standard output.

    python tools/check_dataset.py "got10k:/data/GOT-10k?subset=val" folder:clips [--quick]

Exit code: 0 all is well, 2 wrong usage, 3 something is wrong. Names of data sets are explained in
siamtrack/data/open.py.
"""

from __future__ import annotations

import argparse
import sys

from siamtrack.data.check import check_dataset
from siamtrack.errors import ConfigError, DatasetError


def main(argv: list[str] | None = None) -> int:
    """Check the data sets named on the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("specs", nargs="+", metavar="KIND:ROOT", help="data sets to check")
    parser.add_argument("--quick", action="store_true", help="read headers, decode nothing")
    args = parser.parse_args(argv)
    total = 0
    for spec in args.specs:
        try:
            problems = check_dataset(spec, quick=args.quick, progress=True)
        except ConfigError as error:
            print(f"check_dataset: error: {error}", file=sys.stderr)
            return error.exit_code
        for problem in problems:
            print(problem)
        print(f"{spec}: {len(problems) or 'no'} problem(s)", file=sys.stderr)
        total += len(problems)
    return DatasetError.exit_code if total else 0


if __name__ == "__main__":
    sys.exit(main())
