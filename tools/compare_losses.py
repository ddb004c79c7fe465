"""Train the same tracker with each loss under equal budget, and compare on held-out sequences.

python tools/compare_losses.py losses folder:held_out --config run.toml --set loop.steps=1500
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from siamtrack.errors import SiamTrackError
from siamtrack.training.compare_losses import compare_and_report
from siamtrack.training.config import load_config


def main(argv: list[str] | None = None) -> int:
    """Compare, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("out", type=Path, help="folder of the comparison")
    parser.add_argument("sequences", metavar="KIND:ROOT", help="data set to judge on")
    parser.add_argument("--config", type=Path, help="TOML file over the defaults")
    parser.add_argument("--set", action="append", default=[], metavar="A.B=C", help="over the file")
    parser.add_argument("--only", nargs="+", default=[], metavar="NAME", help="of these variants")
    parser.add_argument("--max-frames", type=int, default=0, help="of a sequence; 0: all")
    a = parser.parse_args(argv)
    try:
        config = load_config(a.config, tuple(a.set))
        table = compare_and_report(config, a.sequences, a.out, a.only, a.max_frames)
    except SiamTrackError as error:
        print(f"compare_losses: error: {error}", file=sys.stderr)
        return error.exit_code
    print(table.read_text(), end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
