"""`siamtrack studio`: draw and correct the boxes of a clip in the browser."""

from __future__ import annotations

import secrets
import threading
import webbrowser
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import click

from siamtrack.cli.options import PATH, fps_option, model_options, tracker_options
from siamtrack.errors import ConfigError

_NEEDED = ("starlette", "uvicorn", "websockets")


@click.command("studio")
@click.argument("clips", metavar="CLIP...", nargs=-1, required=True)
@click.option(
    "--project",
    type=PATH,
    metavar="DIR",
    help="Where to keep what is drawn.  [default: CLIP.siamtrack beside each clip]",
)
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=0,
    show_default=True,
    metavar="N",
    help="Port of this machine to listen on, the next free one where it is taken; 0: any.",
)
@click.option("--no-browser", is_flag=True, help="Only print the address.")
@fps_option
@model_options
def command(
    clips: tuple[str, ...],
    project: Path | None,
    port: int,
    no_browser: bool,
    fps: float | None,
    weights: str | None,
    device: str,
    engine: str,
    settings: tuple[tuple[str, Any], ...],
) -> int:
    """Draw boxes in CLIP, let the tracker fill the frames between them, correct, export.

    CLIP is a video file, a folder or a quoted pattern of pictures. The first line of the output is
    the address for a browser on this machine; nobody else can open it. Every change is on disk
    before the page shows it as saved. Ctrl-C ends the studio.
    """
    if missing := [name for name in _NEEDED if find_spec(name) is None]:
        raise ConfigError(
            f"siamtrack studio needs {', '.join(missing)}, which is not installed; pip install "
            "'siamtrack[studio]'"
        )
    from siamtrack.api import DEFAULT_WEIGHTS, options_for, read_source
    from siamtrack.studio.server import Studio, StudioServer, bind
    from siamtrack.studio.session import project_folder
    from siamtrack.tracking.old_names import rename_options
    from siamtrack.utils.memory import return_freed_memory

    return_freed_memory()
    # 1. What tracks, and the clips: what is wrong with them is said before a browser opens.
    options = tracker_options(settings)
    source, tuned = read_source(weights or DEFAULT_WEIGHTS)
    options_for(source, {**tuned, **rename_options(options)})
    setup = {"weights": weights, "device": device, "engine": engine, "options": options}
    named = Path(weights).name if weights else DEFAULT_WEIGHTS
    folders = [project_folder(clip, project) for clip in clips]
    if len(set(folders)) < len(folders):
        raise ConfigError("a clip is given twice; give each one once")
    with Studio(clips, folders, setup, (named, source.sha256), fps) as studio:
        studio.prepare()

        # 2. Serve in a thread; this one waits for Ctrl-C.
        sock, taken = bind(port)
        if taken is not None:
            click.echo(f"siamtrack: port {taken} is taken", err=True)
        token, ended = secrets.token_urlsafe(32), threading.Event()
        server = StudioServer(studio, sock, token)
        serving = threading.Thread(target=server.serve_until, args=(ended,), daemon=True)
        serving.start()
        address = f"http://127.0.0.1:{sock.getsockname()[1]}/#token={token}"
        click.echo(address)
        if not no_browser:
            webbrowser.open(address)
        try:
            while serving.is_alive():
                serving.join(0.5)
        except KeyboardInterrupt as stop:
            was_tracking = studio.jobs.is_running
            # SIGTERM and SIGHUP have codes of their own.
            return getattr(stop, "exit_code", 130 if was_tracking else 0)
        finally:
            studio.close()
            ended.set()
            serving.join()
    return 0
