"""Video in and out.

Reading order: `frames` (a frame, a source, a reader), `source` (`open_source`), `decode` (files and
streams), `cameras` (webcams, folders of pictures), `random_access` (frames by number); `run` (the
frame loop), `outputs` with `tables` and `video_writer` (files), `draw` (boxes and labels), `window`
and `interactive` (drawing boxes, pausing).
"""
