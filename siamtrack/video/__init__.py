"""Video in and out: sources, drawing, the window, sinks."""

from __future__ import annotations

from siamtrack.video.tables import CSV_HEADER, CsvSink, JsonLinesSink
from siamtrack.video.video_writer import VideoSink

__all__ = ["CSV_HEADER", "CsvSink", "JsonLinesSink", "VideoSink"]
