"""Train a tracker.

    python tools/train.py run1 --config tools/configs/lite0.toml --set cache=cache
    python tools/train.py run1 --config tools/configs/lite0.toml --set cache=cache --resume
    torchrun --nproc-per-node 4 tools/train.py run2 --config tools/configs/lite0.toml

Its keys are explained in siamtrack/training/config.py.
"""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path

from siamtrack.errors import SiamTrackError
from siamtrack.training.config import load_config
from siamtrack.training.train import fit


def main(argv: list[str] | None = None) -> int:
    """Train as the command line says; the path of the weights goes to standard output."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("out", type=Path, help="folder of the run")
    parser.add_argument("--config", type=Path, help="TOML file over the defaults")
    parser.add_argument("--set", action="append", default=[], metavar="A.B=C", help="over the file")
    parser.add_argument("--resume", action="store_true", help="go on from the last checkpoint")
    args = parser.parse_args(argv)
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    try:
        print(fit(load_config(args.config, tuple(args.set)), args.out, resume=args.resume))
    except SiamTrackError as error:
        print(f"train: error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
