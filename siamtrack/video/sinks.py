"""Where results go: an annotated video, a table, JSON lines."""

from siamtrack.video.tables import CSV_HEADER, CsvSink, JsonLinesSink
from siamtrack.video.video_sink import VideoSink

__all__ = ["CSV_HEADER", "CsvSink", "JsonLinesSink", "VideoSink"]
