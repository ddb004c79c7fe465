"""The same as `siamtrack compare-losses`; kept for one release."""

import sys

from siamtrack.cli import main

if __name__ == "__main__":
    sys.exit(main(["compare-losses", *sys.argv[1:]]))
