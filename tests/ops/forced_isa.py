"""Runs tests by every ISA that this machine has, with arguments of the loops that end where a page begins that nobody
may touch.

`python forced_isa.py ARGUMENTS...` hands the arguments to pytest, once per ISA, and prints a line of JSON: the exit
status by ISA. ALIGNDRAW_ISA is read once per process; a fork for each ISA saves the imports.
"""

import functools
import json
import os
import sys

import loop_cases
import pytest
import torch
from guarded import at_the_end_of_a_page

from aligndraw import ops
from aligndraw.backends import ISAS


def guarded(make):
    @functools.wraps(make)
    def make_guarded(*args, **kwargs):
        made = make(*args, **kwargs)
        moved = [
            type(a)(*map(at_the_end_of_a_page, a)) if isinstance(a, tuple) else at_the_end_of_a_page(a) for a in made
        ]
        return type(made)(moved)

    return make_guarded


def main(arguments):
    loop_cases.make, loop_cases.make_sequence = guarded(loop_cases.make), guarded(loop_cases.make_sequence)
    status = {}
    for isa in ISAS[: torch.ops.aligndraw.best_isa() + 1]:
        process = os.fork()
        if process == 0:
            os.environ["ALIGNDRAW_ISA"] = isa
            assert ISAS[torch.ops.aligndraw.isa()] == isa
            os._exit(pytest.main(arguments))
        status[isa] = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    print(json.dumps(status))


assert ops  # loads the library
if __name__ == "__main__":
    main(sys.argv[1:])
