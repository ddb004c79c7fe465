"""The same as `siamtrack eval`; kept for one release."""

import sys

from siamtrack.cli import main

if __name__ == "__main__":
    sys.exit(main(["eval", *sys.argv[1:]]))
