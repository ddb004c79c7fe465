"""From a response to a box: the two ways a siamese network can say where the target is.

Both look at square search windows around the last centre, weigh the response against a cosine
window, and return a `Candidate` in frame coordinates; `Tracker` does the rest.
"""

from __future__ import annotations

from siamtrack.models.network import NetworkConfig
from siamtrack.tracking.box_head import BoxHead
from siamtrack.tracking.localiser import Localiser
from siamtrack.tracking.options import BoxHeadOptions, ScalePyramidOptions, TrackerOptions
from siamtrack.tracking.scale_pyramid import ScalePyramid


def localiser_for(config: NetworkConfig, options: TrackerOptions) -> Localiser:
    """The localiser that the options are for.

    Raises:
        TypeError: options of no known kind.
    """
    if isinstance(options, BoxHeadOptions):
        return BoxHead(config, options)
    if isinstance(options, ScalePyramidOptions):
        return ScalePyramid(config, options)
    raise TypeError(f"options are {type(options).__name__}; give one of its two children")
