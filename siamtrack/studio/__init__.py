"""The studio: boxes for a whole clip with a few drags, in the browser.

Reading order; what a track is lies in `tracking/track`:

project     the targets of one clip, operations on them, undo
store       their folder on disk: journal, snapshot, runs, lock
frames      pictures of a clip by number, as JPEG
worker      the child process that tracks
jobs        what is to be tracked, one after another
exchange    import and export, through `data/convert`
session     one clip: project, store and frames put together
gate        who may ask: host, origin, token, sizes
server      routes and events
page/       what the browser shows
"""
