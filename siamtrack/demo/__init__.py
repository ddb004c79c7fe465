"""The demo: render a clip, track it, compare with the ground truth. It needs only the package.

1. film: renders the clip, with the exact box of its target in every frame.
2. run: tracks it, compares, draws video, strip and contact sheet.
3. pictures/: source pictures of the clip, with licenses.
"""
