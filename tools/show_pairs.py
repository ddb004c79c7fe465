"""Draw training pairs with their labels into a picture: look before you train.

    python tools/show_pairs.py pairs.png --config tools/configs/lite0.toml --set cache=cache

A loss that is not finite names its pairs: look at them with --first and --count.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from siamtrack.data.show import save_pairs_picture
from siamtrack.errors import SiamTrackError
from siamtrack.training.config import load_config


def main(argv: list[str] | None = None) -> int:
    """Draw the pairs that the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("out", type=Path, help="PNG to write")
    parser.add_argument("--config", type=Path, help="TOML file over the defaults")
    parser.add_argument("--set", action="append", default=[], metavar="A.B=C", help="over the file")
    parser.add_argument("--first", type=int, default=0, help="index of the first pair")
    parser.add_argument("--count", type=int, default=64, help="number of pairs")
    args = parser.parse_args(argv)
    try:
        config = load_config(args.config, tuple(args.set))
        save_pairs_picture(config, args.out, first=args.first, count=args.count)
    except SiamTrackError as error:
        print(f"show_pairs: error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
