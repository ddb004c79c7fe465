"""`python -m siamtrack`, where the `siamtrack` command is not on the path."""

import sys

from siamtrack.cli import main

if __name__ == "__main__":
    sys.exit(main())
