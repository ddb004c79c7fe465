"""The same as `siamtrack check-dataset`; kept for one release."""

import sys

from siamtrack.cli import main

if __name__ == "__main__":
    sys.exit(main(["check-dataset", *sys.argv[1:]]))
