"""The same as `siamtrack show-pairs`; kept for one release."""

import sys

from siamtrack.cli import main

if __name__ == "__main__":
    sys.exit(main(["show-pairs", *sys.argv[1:]]))
