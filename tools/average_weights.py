"""The same as `siamtrack average-weights`; kept for one release."""

import sys

from siamtrack.cli import main

if __name__ == "__main__":
    sys.exit(main(["average-weights", *sys.argv[1:]]))
