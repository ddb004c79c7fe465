"""The same as `siamtrack tune`; kept for one release."""

import sys

from siamtrack.cli import main

if __name__ == "__main__":
    sys.exit(main(["tune", *sys.argv[1:]]))
