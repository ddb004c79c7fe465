"""Convert a SiamFC checkpoint of another program into weights for siamtrack.

Example: python tools/import_weights.py siamfc_alexnet_e50.pth weights/siamfc.safetensors
"""

from __future__ import annotations

import argparse
import sys

from siamtrack.errors import SiamTrackError
from siamtrack.models.import_siamfc import import_siamfc


def main(argv: list[str] | None = None) -> int:
    """Import one checkpoint and say what came out; 3 when it cannot be used."""
    parser = argparse.ArgumentParser(description="Convert a SiamFC checkpoint for siamtrack.")
    parser.add_argument("source", help="PyTorch state dict (.pth) or MatConvNet network (.mat)")
    parser.add_argument("destination", help="the .safetensors file to write")
    parser.add_argument("--training-data", nargs="+", default=["unknown"], metavar="NAME")
    parser.add_argument("--licence", default="unknown", help="as its authors state it")
    parser.add_argument("--overwrite", action="store_true")
    args = parser.parse_args(argv)
    try:
        card = import_siamfc(
            args.source,
            args.destination,
            training_data=args.training_data,
            licence=args.licence,
            overwrite=args.overwrite,
        )
    except SiamTrackError as error:
        print(f"import_weights: error: {error}", file=sys.stderr)
        return error.exit_code
    print(f"{args.destination}: {card.architecture}, sha256 {card.sha256}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
