"""Synthetic scenes: videos with exact boxes, rendered from any folder of pictures.

Reading order:

1. config: the scene parameters.
2. textures: backgrounds and cut-outs.
3. render: moving objects, motion blur, ground truth.
4. curves: splines and filters for motion.
5. scene: draws a random scene and renders it.
6. dataset: a folder of rendered clips (`siamtrack make-synthetic`).
"""

from siamtrack.data.synthetic.config import SceneConfig, read_config
from siamtrack.data.synthetic.dataset import SetReport, make_data_set
from siamtrack.data.synthetic.scene import SceneFrame, render_scene, small_scene
from siamtrack.data.synthetic.textures import Cutout, FolderTextures, NoiseTextures, Textures

__all__ = [
    "Cutout",
    "FolderTextures",
    "NoiseTextures",
    "SceneConfig",
    "SceneFrame",
    "SetReport",
    "Textures",
    "make_data_set",
    "read_config",
    "render_scene",
    "small_scene",
]
