"""Helpers without any knowledge of tracking.

`config` (parse, build and check options), `files` (atomic writes, files that grow), `images`
(picture files), `progress` (progress of frames), `workers` (a pool of processes).
"""
