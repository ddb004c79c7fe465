"""What people and programs read after an evaluation.

- `content`: every figure as plain data, which is `report.json`;
- `plots`: success, precision, attributes, robustness, speed against accuracy, with matplotlib;
- `strips`: pictures of the moments in which trackers lose their target;
- `page`: `report.html`, one file without anything from elsewhere;
- `tables`: Markdown and LaTeX.
"""
