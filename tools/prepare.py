"""Crop data sets once, so that training never decodes whole frames.

    python tools/prepare.py cache pack:/data/pack "got10k:/data/GOT-10k?subset=train"

Names of data sets are explained in siamtrack/data/open.py.
"""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path

from siamtrack.data.cache import CacheConfig
from siamtrack.data.prepare import prepare
from siamtrack.errors import SiamTrackError


def main(argv: list[str] | None = None) -> int:
    """Make the cache and say what is in it."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("out", type=Path, help="folder to make")
    parser.add_argument("specs", nargs="+", metavar="KIND:ROOT", help="data sets")
    parser.add_argument("--max-frames", type=int, default=150, help="most frames of a target")
    parser.add_argument("--quality", type=int, default=92, help="of the JPEGs, 0 to 100")
    parser.add_argument("--partial", action="store_true", help="use incomplete data sets")
    args = parser.parse_args(argv)
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    try:
        config = CacheConfig(max_frames=args.max_frames, jpeg_quality=args.quality)
        cache = prepare(args.specs, args.out, config, partial=args.partial)
    except SiamTrackError as error:
        print(f"prepare: error: {error}", file=sys.stderr)
        return error.exit_code
    print(f"{args.out}: {len(cache.tracks)} targets, {len(cache)} pictures")
    return 0


if __name__ == "__main__":
    sys.exit(main())
