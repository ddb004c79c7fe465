"""Measure pairs per second of loading alone and of training, on this machine.

python tools/throughput.py --config tools/configs/lite0.toml --set cache=cache
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from siamtrack.errors import SiamTrackError
from siamtrack.training.config import load_config
from siamtrack.training.throughput import as_markdown, measure


def main(argv: list[str] | None = None) -> int:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--config", type=Path, help="TOML file over the defaults")
    parser.add_argument("--set", action="append", default=[], metavar="A.B=C", help="over the file")
    parser.add_argument("--frozen", nargs="+", type=int, default=[3, 0], help="frozen stages")
    parser.add_argument("--steps", type=int, default=40, help="of each run")
    args = parser.parse_args(argv)
    try:
        config = load_config(args.config, tuple(args.set))
        print(as_markdown(measure(config, args.frozen, args.steps)), end="")
    except SiamTrackError as error:
        print(f"throughput: error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
