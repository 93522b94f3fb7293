"""`aligndraw demo`: serves a page that draws captions step by step."""

from __future__ import annotations

import argparse
import threading
import warnings

from aligndraw.cli.failure import Failure, failing
from aligndraw.cli.options import add_device, add_model, describe_backends, int_at_least
from aligndraw.cli.telling import tell
from aligndraw.demo.studio import Offer
from aligndraw.pipelines import CaptionWarning
from aligndraw.pipelines.shipped import NONE_SHIPS, shipped_models

LAST_PORT = 65535


def add_to(parser: argparse.ArgumentParser) -> None:
    """Adds the options of the command to its parser."""
    parser.description = (
        "Serves a page on this machine: type a caption, watch it being drawn with its windows and the words that each "
        'step attends to, and compare captions. It needs `pip install "aligndraw[demo]"` and no network.'
    )
    add_model(parser, "all that ship, to choose from")
    parser.add_argument(
        "--host",
        default="127.0.0.1",
        metavar="HOST",
        help="address to listen on; 0.0.0.0 lets other machines of the network in [%(default)s]",
    )
    parser.add_argument(
        "--port", type=int_at_least(1, LAST_PORT + 1), metavar="N", help="port to listen on [a free one from 7860 on]"
    )
    parser.add_argument("--no-browser", action="store_true", help="only print the address")
    add_device(parser)
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    try:
        from aligndraw.demo import page
    except ImportError as error:
        raise Failure(f'the page needs Gradio: pip install "aligndraw[demo]" ({error})') from error
    describe_backends(arguments.device)
    sources = list(shipped_models().values()) if arguments.model is None else [arguments.model]
    if not sources:
        raise Failure(NONE_SHIPS)
    with failing(ValueError, FileNotFoundError):
        offers = {offer.name: offer for offer in (Offer.of(source, arguments.device) for source in sources)}
    warnings.simplefilter("ignore", CaptionWarning)  # the page shows them
    shown = page.build(offers)
    try:
        address = page.start(shown, arguments.host, arguments.port, not arguments.no_browser)
    except OSError as error:
        place = f"{arguments.host}{f':{arguments.port}' if arguments.port else ''}"
        raise Failure(f"cannot serve on {place}, it is taken or not of this machine: choose another --port") from error
    try:
        tell(f"the page is at {address} until you press Ctrl-C", flush=True)
        threading.Event().wait()
    finally:
        shown.close(verbose=False)
    return 0
