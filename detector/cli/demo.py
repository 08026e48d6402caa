"""A page in the browser: drop a photograph, see what becomes of its regions, teach a class.

inception-rcnn demo
inception-rcnn demo --weights runs/mine/bundle --port 8000
"""

from typing import Annotated

import typer

from detector.cli import options as option
from detector.cli.app import members_of
from detector.errors import SettingsError
from detector.progress.messages import say


def main(
    weights: option.Weights = None,
    ensemble: option.Ensemble = "1",
    host: Annotated[
        str, typer.Option(help="Address to listen on; 0.0.0.0: all, without a password.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535)] = 7860,
    browser: Annotated[bool, typer.Option(help="Open the page in the browser.")] = True,
    device: option.Device = "auto",
    threads: option.Threads = None,
) -> int:
    """Try the detector, and teach it a class, in the browser."""
    from detector.cli.detecting.loading import announce_compiling
    from detector.detection.load import SHIPPED

    try:
        from detector.demo.lessons import Machine
        from detector.demo.page import launch, make_page
    except ModuleNotFoundError as error:
        raise SettingsError(
            f'this needs {error.name}, which is not installed; pip install "inception-rcnn[demo]"'
        ) from None
    announce_compiling(False)
    page = make_page(Machine(weights or SHIPPED, device, threads, members_of(ensemble)))
    say(f"the page is at http://{host}:{port}; Ctrl-C ends")
    launch(page, host, port, browser=browser)
    return 0
