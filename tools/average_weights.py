"""Average weights of runs that began with the same weights, and set the size of the search crop.

python tools/average_weights.py mean.safetensors run1.safetensors run2.safetensors --search-size 224
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from siamtrack.errors import SiamTrackError
from siamtrack.training.average import average_weights


def main(argv: list[str] | None = None) -> int:
    """Average the named weights; the path of the mean goes to standard output."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("out", type=Path, help="weights file to write")
    parser.add_argument("sources", nargs="+", help="names or files")
    parser.add_argument("--search-size", type=int, default=0, help="px; 0 keeps it")
    args = parser.parse_args(argv)
    try:
        print(average_weights(args.out, args.sources, search_size_px=args.search_size))
    except SiamTrackError as error:
        print(f"average_weights: error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
