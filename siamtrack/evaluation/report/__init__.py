"""What people and programs read after an evaluation.

- `report`: every figure as plain data (`report.json`), its tables, and the writing of all files.
- `tables`: Markdown tables and strict JSON, shared with the reports of training and tuning.
- `plots`: success, precision, attributes, robustness, speed and accuracy, calibration.
- `failures`: pictures of the moments in which trackers lose their target, and the gallery.
- `page`: `report.html`, one file that loads nothing else.
"""
