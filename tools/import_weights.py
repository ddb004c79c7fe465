"""The same as `siamtrack import-weights`; kept for one release."""

import sys

from siamtrack.cli import main

if __name__ == "__main__":
    sys.exit(main(["import-weights", *sys.argv[1:]]))
