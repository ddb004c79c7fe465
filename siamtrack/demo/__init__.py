"""The demo: nothing but the package is needed.

- `film`: renders the clip, with the exact box of its target in every frame;
- `run`: tracks it, compares with the truth, draws video, strip and contact sheet;
- `pictures/`: what the clip is made of, with licenses.
"""
