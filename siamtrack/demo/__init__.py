"""The demo: a film with a known truth, made on the spot and tracked."""

from siamtrack.demo.run import DEFAULT_FRAMES, DemoReport, demo_files, run_demo

__all__ = ["DEFAULT_FRAMES", "DemoReport", "demo_files", "run_demo"]
