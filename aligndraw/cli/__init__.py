"""The command line: `aligndraw sample`, `sharpen`, `train`, `data`, `eval`,
`figures`, `tables` and `info`.

What the user can mend ends in one line on stderr; a traceback means a fault of the library.
"""

from __future__ import annotations

import argparse
import io
import os
import sys
from collections.abc import Sequence

import torch

import aligndraw
from aligndraw import info
from aligndraw.cli import (
    command_data,
    command_figures,
    command_sample,
    command_sharpen,
    evaluate,
    train,
)
from aligndraw.cli.failure import Failure
from aligndraw.cli.options import Parser
from aligndraw.cli.telling import tell
from aligndraw.printable import one_line


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command.

    Returns:
        the exit status: 0; 1 for what went wrong; 2 for a wrong command line (some of these are
        raised as SystemExit); 130 for an interruption, 141 when nobody reads the output any more.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):  # file names need not be valid text
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        arguments = _parser().parse_args(argv)
        status: int = arguments.run(arguments)
        sys.stdout.flush()
        return status
    except Failure as failure:
        return _complain(str(failure), failure.status)
    except KeyboardInterrupt:
        tell("aligndraw: interrupted", error=True)
        return 130
    except BrokenPipeError:
        # Else the interpreter complains when it flushes the stream at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except OSError as error:
        place = error.filename2 or error.filename
        return _complain(f"{place}: {error.strerror}" if place else str(error), 1)
    except (MemoryError, RuntimeError) as error:
        if not _is_out_of_memory(error):
            raise
        return _complain(f"not enough memory: {error}", 1)


def _parser() -> Parser:
    parser = Parser(
        prog="aligndraw",
        description="Draws pictures from captions with alignDRAW (Mansimov et al., 2016).",
    )
    parser.add_argument("--version", action="version", version=f"aligndraw {aligndraw.__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")
    command_sample.add_to(commands)
    command_sharpen.add_to(commands)
    train.add_to(commands)
    command_data.add_to(commands)
    evaluate.add_to(commands)
    command_figures.add_to(commands)
    what = "what this installation can do, and why it cannot do the rest"
    commands.add_parser("info", help=what, description=what).set_defaults(run=_info)
    parser.set_defaults(run=lambda _: parser.parse_args(["--help"]))
    return parser


def _info(_: argparse.Namespace) -> int:
    info.main()
    return 0


def _complain(message: str, status: int) -> int:
    tell(f"aligndraw: error: {one_line(message)}", error=True)
    return status


def _is_out_of_memory(error: Exception) -> bool:
    known = (MemoryError, torch.OutOfMemoryError)
    return isinstance(error, known) or "can't allocate memory" in str(error)
