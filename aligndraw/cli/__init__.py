"""The command line, `aligndraw COMMAND`: the table `COMMANDS` has all commands.

An error that the user can correct is one line on stderr; a traceback is a fault of the library.
"""

from __future__ import annotations

import importlib
import io
import os
import sys
from collections.abc import Sequence
from typing import Any

import aligndraw
from aligndraw.cli.failure import Failure, reason
from aligndraw.cli.parser import Parser
from aligndraw.cli.telling import tell
from aligndraw.json_files import FileError
from aligndraw.printable import one_line

COMMANDS = {
    "sample": ("command_sample", "draw pictures of captions"),
    "demo": ("command_demo", "open a page in the browser that draws captions step by step"),
    "models": ("command_models", "list the models that ship, with captions that work"),
    "export": ("command_export", "make a folder to share of a trained model"),
    "sharpen": ("command_sharpen", "sharpen pictures that were drawn before"),
    "train": ("train", "train a model and save it into a folder"),
    "data": ("command_data", "store pictures with captions in a folder to train on"),
    "eval": ("evaluate", "measure how good a model is"),
    "figures": ("command_figures", "draw the figures of the paper"),
    "tables": ("evaluate.tables", "compare models: the paper's Tables 1 and 3"),
    "info": ("command_info", "list the backends, devices and settings of this installation"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command.

    Returns:
        the exit status: 0; 1 for an error; 2 for a wrong command line (some are raised as SystemExit); 130 for an
        interruption; 141 when the output is closed.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):  # file names may be invalid text
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        arguments = _parser().parse_args(argv)
        status: int = arguments.run(arguments)
        sys.stdout.flush()
        return status
    except Failure as failure:
        return _complain(str(failure), failure.status, failure.hints)
    except FileError as error:  # also of files that are read during the work
        return _complain(str(error), 1)
    except KeyboardInterrupt:
        tell("aligndraw: interrupted", error=True)
        return 130
    except BrokenPipeError:
        # Otherwise the interpreter reports an error when it flushes the stream at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except OSError as error:
        return _complain(reason(error), 1)
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
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", parser_class=_Command)
    for name, (module, text) in COMMANDS.items():
        commands.add_parser(name, help=text, description=text, module=f"aligndraw.cli.{module}")
    parser.set_defaults(run=lambda _: parser.parse_args(["--help"]))
    return parser


class _Command(Parser):
    """A command whose module is imported when the command is called: importing torch takes seconds."""

    def __init__(self, module: str = "", **settings: Any) -> None:
        super().__init__(**settings)
        self._module = module

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """As in argparse."""
        if self._module:
            importlib.import_module(self._module).add_to(self)
            self._module = ""
        return super().parse_known_args(args, namespace)


def _complain(message: str, status: int, hints: Sequence[str] = ()) -> int:
    tell(f"aligndraw: error: {one_line(message)}", *hints, error=True)
    return status


def _is_out_of_memory(error: Exception) -> bool:
    torch = sys.modules.get("torch")
    known = (MemoryError, *((torch.OutOfMemoryError,) if torch else ()))
    return isinstance(error, known) or "can't allocate memory" in str(error)
