"""The decoder's weights, packed for the C++ products of `unroll_prior` once for many calls."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from aligndraw.backends import backend_for
from aligndraw.ops import _autograd
from aligndraw.ops._decoder import DecoderWeights
from aligndraw.ops._fields import results_schema, schema
from aligndraw.ops._op import define_kernel, is_plain
from aligndraw.ops.unroll_prior import Drawn, Inputs, Results, drawn, unroll_prior

# Its one kernel is C++'s, for the CPU.
_packed = define_kernel("unroll_prior_packed", f"({schema(Inputs)}, Tensor packed) -> {results_schema(Results)}")


class _Kept(NamedTuple):
    key: tuple[int, int, Hashable]  # the fingerprint of the sources, the number of threads, and the settings
    weights: DecoderWeights
    packed: Tensor


class PackedDecoder:
    """Calls of `unroll_prior` that pack the decoder's weights in C++ only where they have changed since the last call.

    Each call compares a fingerprint of all bytes of the weights' sources, and the settings, with those of the packing,
    and packs anew where they differ. So no change goes unnoticed, however it was made: a write through `.data` or NumPy
    counts. The results have the bits of `unroll_prior`.

    The object holds one more copy of the weights. A copy or a pickle of the object starts without one.
    """

    def __init__(self) -> None:
        self._kept: _Kept | None = None

    def __reduce__(self) -> tuple[type[PackedDecoder], tuple[()]]:
        return PackedDecoder, ()

    def unroll_prior(
        self,
        canvas: Tensor,
        words: Tensor,
        keys: Tensor | None,
        lengths: Tensor,
        noise: Tensor,
        sources: Sequence[Tensor],
        decoder: Callable[[], DecoderWeights],
        write_size: int,
        tints: int = 0,
        opacity: bool = False,
        settings: Hashable = (),
    ) -> Drawn:
        """As the function `unroll_prior`.

        Args:
            canvas, words, keys, lengths, noise, write_size, tints, opacity: as there.
            sources: the tensors that, with the settings, determine the weights.
            decoder: makes the weights.
            settings: the numbers beside the tensors.
        """
        inputs = (canvas, words, noise, *sources) if keys is None else (canvas, words, keys, noise, *sources)
        plain = is_plain(inputs) and backend_for("unroll_prior", "cpu") == "cpp"
        if not plain or _autograd.requires_grad(inputs):
            return unroll_prior(canvas, words, keys, lengths, noise, decoder(), write_size, tints, opacity)
        with torch.no_grad(), torch._C._AutoDispatchBelowAutograd():
            key = torch.ops.aligndraw.fingerprint(sources), torch.get_num_threads(), settings
            kept = self._kept
            if kept is None or kept.key != key:
                weights = decoder()
                packed = torch.ops.aligndraw.pack_decoder(
                    weights.decoder_ih, weights.decoder_hh, weights.heads, noise.shape[2]
                )
                self._kept = kept = _Kept(key, weights, packed)
            numbers = write_size, tints, opacity
            return drawn(_packed(canvas, words, keys, lengths, noise, *kept.weights, *numbers, kept.packed), keys)
