"""The same as `siamtrack train`; kept for one release."""

import sys

from siamtrack.cli import main

if __name__ == "__main__":
    sys.exit(main(["train", *sys.argv[1:]]))
