"""The ops: differentiable, checked, and served by the fastest backend that is built for the tensors' device.

The file of an op holds its contract, its reference in plain PyTorch and its gradient. `csrc/` and `kernels/` hold its
kernels under the same name.
"""

from aligndraw.ops._decoder import DecoderWeights, drawn_patch
from aligndraw.ops._unroll_fields import EncoderWeights
from aligndraw.ops.attend import attend, attend_reference
from aligndraw.ops.cover import cover
from aligndraw.ops.latent import latent, latent_reference
from aligndraw.ops.lstm import lstm_cell, lstm_gates, lstm_gates_reference
from aligndraw.ops.lstm_sequence import lstm_sequence
from aligndraw.ops.muon import muon_, orthogonal
from aligndraw.ops.packed_decoder import PackedDecoder
from aligndraw.ops.product import linear, product, product_reference, rounds_fast
from aligndraw.ops.read import read, read_reference
from aligndraw.ops.rmsprop import rmsprop_
from aligndraw.ops.unroll import Unrolled, unroll
from aligndraw.ops.unroll_prior import Drawn, unroll_prior
from aligndraw.ops.window import filterbanks, grid
from aligndraw.ops.write import write, write_reference

# Ops of one step, loops over all steps, and ops without derivatives.
OPS = ("read", "write", "attend", "lstm_gates", "latent")
LOOPS = ("lstm_sequence", "unroll", "unroll_prior")
PLAIN_OPS = ("muon_", "product", "rmsprop_")

__all__ = [
    "LOOPS",
    "OPS",
    "PLAIN_OPS",
    "DecoderWeights",
    "Drawn",
    "EncoderWeights",
    "PackedDecoder",
    "Unrolled",
    "attend",
    "attend_reference",
    "cover",
    "drawn_patch",
    "filterbanks",
    "grid",
    "latent",
    "latent_reference",
    "linear",
    "lstm_cell",
    "lstm_gates",
    "lstm_gates_reference",
    "lstm_sequence",
    "muon_",
    "orthogonal",
    "product",
    "product_reference",
    "read",
    "read_reference",
    "rmsprop_",
    "rounds_fast",
    "unroll",
    "unroll_prior",
    "write",
    "write_reference",
]
