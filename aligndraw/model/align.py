"""The align operator: soft attention over the words of a caption at each step (Eq. 2, 6, 7)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from aligndraw import ops


class _Keys(nn.Linear):
    """U, without a bias. Its product is that of the loops."""

    def forward(self, words: Tensor) -> Tensor:
        return ops.linear(words, self.weight)


class WordAttention(nn.Module):
    """α = softmax_k(scale · v · tanh(U h_lang_k + W h + b)), s = Σ_k α_k h_lang_k.

    With a query of the step alone, h is a one-hot vector [T] that tells the step.

    Args:
        units: of h.
        word_units: of a word's representation, 2m.
        align_units: l.
        scale: of the energies before the softmax; the paper's model has 1.
    """

    def __init__(self, units: int, word_units: int, align_units: int, scale: float = 1.0) -> None:
        super().__init__()
        self.scale = scale
        self.query = nn.Linear(units, align_units)  # W, b
        self.key = _Keys(word_units, align_units, bias=False)  # U
        self.score = nn.Parameter(torch.empty(align_units))  # v
        nn.init.normal_(self.score, std=align_units**-0.5)

    def scaled_score(self) -> Tensor:
        """Returns scale · v, [l], which stands for v in `ops.attend`."""
        return self.scale * self.score

    def keys(self, words: Tensor) -> Tensor:
        """Returns U h_lang [B, N, l] of words [B, N, 2m]; computed once per caption."""
        return self.key(words)  # type: ignore[no-any-return]

    def forward(self, h: Tensor, keys: Tensor, words: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """h [B, n], keys [B, N, l], words [B, N, 2m], lengths int64 [B] -> s [B, 2m], α [B, N]."""
        return ops.attend(self.query(h), keys, self.scaled_score(), words, lengths)
