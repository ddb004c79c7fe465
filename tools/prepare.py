"""The same as `siamtrack prepare`; kept for one release."""

import sys

from siamtrack.cli import main

if __name__ == "__main__":
    sys.exit(main(["prepare", *sys.argv[1:]]))
