"""Fit the score of weights to sequences they have never seen, and write it into their card.

python tools/calibrate.py siamtrack-lite0 folder:clips
"""

from __future__ import annotations

import argparse
import sys

from siamtrack.data.open import open_dataset
from siamtrack.errors import SiamTrackError
from siamtrack.evaluation import calibration as c
from siamtrack.models import weights as w
from siamtrack.tracking.loading import load


def main(argv: list[str] | None = None) -> int:
    """Calibrate the named weights."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("weights", help="name or file")
    parser.add_argument("spec", metavar="KIND:ROOT", help="data set with truth")
    args = parser.parse_args(argv)
    try:
        tracker = load(args.weights)
        seen = c.observe(tracker.engine, tracker.options, open_dataset(args.spec))
        gain, offset = c.fit(seen)
        off = c.expected_calibration_error(c.probabilities(seen, gain, offset), *seen[1:])
        print(f"gain {gain:.4f}, offset {offset:.4f}, expected calibration error {off:.3f}")
        card = w.read_card(args.weights)
        card.tracker.update(score_gain=round(gain, 4), score_offset=round(offset, 4))
        w.write_card(w.find_weights(args.weights), card)
    except SiamTrackError as error:
        print(f"calibrate: error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
