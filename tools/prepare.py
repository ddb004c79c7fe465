"""Crop data sets once, so that training never decodes whole frames.

    python tools/prepare.py cache pack:/data/pack "got10k:/data/GOT-10k?subset=train"

Data sets are named as in siamtrack/data/open.py.
"""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path

from siamtrack.data.cache import CacheConfig, prepare
from siamtrack.errors import SiamTrackError


def main(argv: list[str] | None = None) -> int:
    """Make the cache; say what is in it."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("out", type=Path, help="folder to make")
    parser.add_argument("specs", nargs="+", metavar="KIND:ROOT", help="data sets")
    parser.add_argument("--max-frames", type=int, default=150, help="most frames of a target")
    parser.add_argument("--partial", action="store_true", help="use incomplete data sets")
    args = parser.parse_args(argv)
    logging.basicConfig(format="%(message)s")
    try:
        how = CacheConfig(max_frames=args.max_frames)
        cache = prepare(args.specs, args.out, how, partial=args.partial)
        print(f"{args.out}: {len(cache.tracks)} targets, {len(cache)} pictures")
    except SiamTrackError as error:
        print(f"prepare: error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
