#!/usr/bin/env python3
"""Evaluate trackers on a data set: the same as `siamtrack eval`.

python tools/evaluate.py clips --root my_clips --out runs/eval
python tools/evaluate.py got10k --root /data/GOT-10k --out runs/got10k --workers 2
    python tools/evaluate.py clips --root clips --out runs/eval --tracker siamtrack --tracker siamfc
python tools/evaluate.py otb100 --root /data/OTB --out runs/otb --scheduler tcp://10.0.0.1:8786
"""

from __future__ import annotations

import sys

from siamtrack.cli import main

if __name__ == "__main__":
    sys.exit(main(["eval", *sys.argv[1:]]))
