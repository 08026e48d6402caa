"""Serve a detector to Label Studio: it proposes boxes, and learns labels that it lacks from those
that people draw.

    inception-rcnn label-studio --weights runs/voc/bundle --model-dir learnt

In Label Studio: Settings, Model, Connect Model, http://localhost:9090. Each learning ends in a new
folder of --model-dir; the bundle of --weights stays as it is.
"""

from pathlib import Path
from typing import Annotated

import typer

from detector.cli import options as option


def main(
    weights: option.Weights = None,
    model_dir: Annotated[Path, typer.Option(help="Folder of what is learnt.")] = Path(
        "label_studio_models"
    ),
    host: Annotated[
        str, typer.Option(help="Address to listen on; 0.0.0.0: all, without a password.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535)] = 9090,
    url: Annotated[
        str | None,
        typer.Option(envvar="LABEL_STUDIO_URL", help="Label Studio's address. [as it connects]"),
    ] = None,
    api_key: Annotated[
        str | None,
        typer.Option(
            envvar="LABEL_STUDIO_API_KEY",
            help="With --url: its access token; in the variable nobody else reads it.",
        ),
    ] = None,
    threshold: Annotated[
        float | None, typer.Option(min=0, max=1, help="Lowest score proposed. [the bundle's]")
    ] = None,
    device: option.Device = "auto",
    threads: option.Threads = None,
) -> int:
    """Serve a detector to Label Studio."""
    from detector.detection.load import SHIPPED
    from detector.errors import SettingsError
    from detector.files import exclusive_lock
    from detector.progress.messages import say

    if (url is None) != (api_key is None):
        raise typer.BadParameter("--url and --api-key (or their variables) go together")
    try:
        from detector.labelling.label_studio import Machine, loaded
        from detector.labelling.label_studio_client import LabelStudio
        from detector.labelling.label_studio_server import make_app
    except ModuleNotFoundError as error:
        raise SettingsError(
            f"this needs {error.name}, which is not installed;"
            ' pip install "inception-rcnn[label-studio]"'
        ) from None
    bundle = weights or SHIPPED
    machine = Machine(device, threads, threshold)
    loaded(str(bundle), machine)  # a damaged one ends here, not at the first picture
    server = None if url is None or api_key is None else LabelStudio(url, api_key)
    with exclusive_lock(model_dir):
        app = make_app(model_dir, bundle, machine, server)
        say(f"Label Studio connects to http://{host}:{port}; Ctrl-C ends")
        app.run(host, port)
    return 0
