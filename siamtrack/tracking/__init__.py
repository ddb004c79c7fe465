"""The tracking loop.

Reading order; the first three belong to the core and lie elsewhere in the package:

geometry           boxes, context windows, `CropMap`
crops              search windows cut from a frame
models/network     what the network takes and returns
options            every option, with what raising and lowering it does
decode             from a response map to a box and its score
reading            the responses to the windows of all targets of a frame, read at once
tracker            `Tracker.update`: crop, run the network, decode, decide, update the state
result             what `update` returns

box_correction     bias of the network's boxes, measured on the first frame
redetection        search for lost targets, verification after recovery, time budget
track              key frames and runs of one target, and which box follows from them
multi              `MultiTracker`: many targets on one engine, kept off each other's objects
old_names          options and methods of 0.1 that still work
"""
