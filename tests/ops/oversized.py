"""A script: prints what calls with sizes that overflow, or that no memory holds, raise on each backend, as JSON.

It runs in a process of its own, with little memory: these calls aborted the process, or went on for hours.
"""

import json
import resource

import torch
from loop_cases import make, prior_args
from torch import empty, ones, rand, zeros

from aligndraw import ops, use_backend
from aligndraw.ops._fields import flatten
from aligndraw.ops._unroll_fields import Inputs, Results

INT64 = torch.int64


def unrolled(shape="odd", **replaced):
    names = (
        "image", "canvas", "words", "keys", "lengths", "noise", "encoder", "decoder", "read", "write", "bf16", "tints",
        "opacity",
    )  # fmt: skip
    return [replaced.get(name, value) for name, value in zip(names, make(shape, dtype=torch.float32), strict=True)]


def tape_row():
    """The size of one step of one caption in the tape and α, counted in arrays that the C++ op makes."""
    args = make("none", dtype=torch.float32, B=1, H=50, W=20)
    made = torch.ops.aligndraw.unroll(*flatten(Inputs(*args)))
    return sum(array[0, 0].numel() for array in made[Results._fields.index("weights") :])


# What is named in the message, with its sizes.
OVERFLOWS = {
    "read: the glimpse [1, 4, 2147483648, 2147483648]": lambda: ops.read(
        rand(1, 2, 4, 4), zeros(1, 5), 2**31, rand(1, 2, 4, 4)
    ),
    "read: the glimpse [1, 4, 1073741824, 1073741824]": lambda: ops.read(
        rand(1, 2, 4, 4), zeros(1, 5), 2**30, rand(1, 2, 4, 4)
    ),
    "read: the glimpse [1, 1, 1073741824, 1073741824]": lambda: ops.read(rand(1, 1, 4, 4), zeros(1, 5), 2**30),
    "read: the glimpse [0, 1, 4611686018427387904, 4611686018427387904]": lambda: ops.read(
        rand(0, 1, 4, 4), zeros(0, 5), 2**62
    ),
    "write: patch [0, 1, 1048577, 1048577]": lambda: ops.write(
        empty(0, 1, 2**20 + 1, 2**20 + 1), empty(0, 5), empty(0, 1, 1, 1)
    ),
    "write: canvas [0, 2097152, 1048576, 1]": lambda: ops.write(
        empty(0, 2**21, 1, 1), empty(0, 5), empty(0, 2**21, 2**20, 1)
    ),
    "attend: keys [1, 2147483648, 0]": lambda: ops.attend(
        empty(1, 0), empty(1, 2**31, 0), empty(0), empty(1, 2**31, 0), ones(1, dtype=INT64)
    ),
    "latent: mu_q [0, 2305843009213693952]": lambda: ops.latent(*[empty(0, 2**61)] * 5),
    "latent: mu_q [2305843009213693952, 0]": lambda: ops.latent(*[empty(2**61, 0)] * 5),
    "lstm_gates: c [0, 4611686018427387904]": lambda: ops.lstm_gates(empty(0, 0), empty(0, 2**62)),
    "lstm_gates: gates [4611686018427387904, 0]": lambda: ops.lstm_gates(empty(2**62, 0), empty(2**62, 0)),
    "lstm_sequence: inputs [0, 1099511627776, 4]": lambda: ops.lstm_sequence(
        empty(0, 2**40, 4), empty(4, 1), empty(1), empty(0, dtype=INT64)
    ),
    "unroll: the glimpse [4, 4294967296, 4294967296]": lambda: ops.unroll(*unrolled(read=2**32)),
    "unroll: the patch [2, 4294967296, 4294967296]": lambda: ops.unroll(*unrolled(write=2**32)),
    "unroll: the tints [2305843009213693952, 6]": lambda: ops.unroll(*unrolled(tints=2**61)),
    "unroll: noise [0, 68719476736, 3]": lambda: ops.unroll(*unrolled("none", noise=empty(0, 2**36, 3))),
    f"unroll: the tape [1073741824, 0, {tape_row()}]": lambda: ops.unroll(
        *unrolled("none", noise=empty(0, 2**30 - 1, 3), image=empty(0, 1, 50, 20), canvas=empty(1, 50, 20))
    ),
    "unroll_prior: the patch [2, 4294967296, 4294967296]": lambda: ops.unroll_prior(*prior_args(unrolled(write=2**32))),
    "unroll_prior: the drawings [1073741824, 0, 1051]": lambda: ops.unroll_prior(
        *prior_args(unrolled("none", noise=empty(0, 2**30, 3), canvas=empty(1, 50, 20)))
    ),
    "product: the product [1048577, 1048577]": lambda: ops.product(empty(2**20 + 1, 0), empty(2**20 + 1, 0), True),
}
# What overflows nothing: a result, and what a thread works in.
NO_MEMORY = {
    "result": lambda: ops.read(rand(1, 1, 4, 4), zeros(1, 5), 2**19),
    "working memory": lambda: ops.write(
        zeros(1, 1, 1, 1).expand(2, 1, 2**12, 2**12), zeros(2, 5), zeros(2, 1, 2**21, 1)
    ),
}


def message(call, backend):
    try:
        with use_backend(backend):
            call()
    except RuntimeError as error:
        return str(error)
    return "no error"


if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_AS, (16 << 30, 16 << 30))
    torch.set_num_threads(2)
    found = {
        "overflows": {name: [message(c, b) for b in ("cpp", "reference")] for name, c in OVERFLOWS.items()},
        "no memory": {name: [message(c, "cpp")] for name, c in NO_MEMORY.items()},
        # Nothing at all, however often: the loops end at once.
        "nothing": ops.lstm_sequence(empty(0, 2**30, 4), empty(4, 1), empty(1), empty(0, dtype=INT64))[0].shape,
    }
    glimpse = ops.read(rand(1, 1, 4, 4), zeros(1, 5), 2)
    print(json.dumps({**found, "afterwards": list(glimpse.shape)}))
