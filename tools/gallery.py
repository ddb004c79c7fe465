"""Draw what the tracker saw where it failed: the worst sequences of a data set, a picture each.

python tools/gallery.py runs/gallery folder:clips --weights siamtrack-lite0 --worst 5
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from siamtrack.api import load
from siamtrack.data.datasets import open_dataset
from siamtrack.errors import SiamTrackError
from siamtrack.evaluation.report.failures import write_gallery
from siamtrack.utils.config import parse_assignments


def main(argv: list[str] | None = None) -> int:
    """Draw, and print the index."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("out", type=Path, help="folder of the gallery")
    parser.add_argument("sequences", metavar="KIND:ROOT", help="data set with truth")
    parser.add_argument("--weights", default="siamtrack-lite0", help="name or file")
    parser.add_argument("--set", action="append", default=[], metavar="OPTION=VALUE")
    parser.add_argument("--worst", type=int, default=5, help="sequences that are drawn")
    parser.add_argument("--max-frames", type=int, default=0, help="of a sequence; 0: all")
    a = parser.parse_args(argv)
    try:
        tracker = load(a.weights, **parse_assignments(a.set))
        how = {"worst": a.worst, "max_frames": a.max_frames, "progress": True}
        print(write_gallery(tracker, open_dataset(a.sequences), a.out, **how).read_text(), end="")
    except SiamTrackError as error:
        print(f"gallery: error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
