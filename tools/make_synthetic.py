"""Render clips with exact boxes from a folder of pictures; they open as the data set folder:OUT.

python tools/make_synthetic.py pictures/ clips/ --clips 200 --set occlusions=2 --workers 4
"""

import argparse
import sys
from pathlib import Path

from tqdm import tqdm

from siamtrack.data.synthetic import FolderTextures, make_data_set, read_config
from siamtrack.errors import SiamTrackError


def main(argv: list[str] | None = None) -> int:
    """Render what is missing of a set and say how much that was."""
    parser = argparse.ArgumentParser(description=__doc__.partition(";")[0])
    parser.add_argument("pictures", type=Path, help="folder of pictures")
    parser.add_argument("out", type=Path, help="folder of the set")
    parser.add_argument("--clips", type=int, default=100, help="how many the set is to have")
    parser.add_argument("--seed", type=int, default=0, help="which clips")
    parser.add_argument("--workers", type=int, default=1, help="processes that render")
    parser.add_argument("--config", type=Path, help="TOML file of knobs, see SceneConfig")
    parser.add_argument("--set", action="append", default=[], metavar="KNOB=VALUE")
    args = vars(parser.parse_args(argv))
    try:
        config = read_config(args.pop("config"), args.pop("set"))
        textures, out = FolderTextures(args.pop("pictures")), args.pop("out")
        with tqdm(total=args["clips"], unit="clip", delay=1) as bar:
            report = make_data_set(out, textures, config, **args, on_clip=bar.update)
    except SiamTrackError as error:
        print(f"make_synthetic: error: {error}", file=sys.stderr)
        return error.exit_code
    print(f"{out}: {report.made} clips made, {report.kept} were there")
    return 0


if __name__ == "__main__":
    sys.exit(main())
