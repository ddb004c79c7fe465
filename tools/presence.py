"""The same as `siamtrack absence`; kept for one release."""

import sys

from siamtrack.cli import main

if __name__ == "__main__":
    sys.exit(main(["absence", *sys.argv[1:]]))
