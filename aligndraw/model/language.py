"""The language model: a bidirectional LSTM over the words of a caption (section 3.1)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from aligndraw import ops


class WordLSTM(nn.Module):
    """An LSTM that reads words: row w of `words` [K, 4m] stands for W_ih times a one-hot vector."""

    def __init__(self, vocabulary_size: int, units: int) -> None:
        super().__init__()
        self.words = nn.Parameter(torch.empty(vocabulary_size, 4 * units))
        self.weight_hh = nn.Parameter(torch.empty(4 * units, units))
        self.bias = nn.Parameter(torch.empty(4 * units))
        self.sparse = False
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """As `torch.nn.LSTMCell`: uniform in ±1/√m."""
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -(self.weight_hh.shape[1] ** -0.5), self.weight_hh.shape[1] ** -0.5)

    def forward(self, ids: Tensor, lengths: Tensor, h0: Tensor, backwards: bool) -> tuple[Tensor, Tensor]:
        """Reads words 1 ... length of each caption, or length ... 1.

        Args:
            ids: int64 [B, N].
            lengths: int64 [B].
            h0: [m], the first hidden state.
            backwards: reads from the last word to the first.

        Returns:
            the state at each word [B, N, m], undefined from word `length` on, and the last state [B, m].
        """
        inputs = nn.functional.embedding(ids, self.words, sparse=self.sparse) + self.bias  # [B, N, 4m]
        return ops.lstm_sequence(inputs, self.weight_hh, h0, lengths, backwards)


class WordEmbedding(nn.Module):
    """One vector per word of the vocabulary, `words` [K, d]."""

    def __init__(self, vocabulary_size: int, units: int) -> None:
        super().__init__()
        self.words = nn.Parameter(torch.empty(vocabulary_size, units))
        self.sparse = False
        nn.init.normal_(self.words)

    def forward(self, ids: Tensor) -> Tensor:
        """ids int64 [B, N] -> vectors [B, N, d]."""
        return nn.functional.embedding(ids, self.words, sparse=self.sparse)


class LanguageModel(nn.Module):
    """h_lang: for each word, the states of both directions at that word.

    With `conventions="released"` the second LSTM reads forwards, and reads caption B − 1 − b for caption b, as the
    authors' released code does; the captions of a batch must then be equally long.
    """

    def __init__(self, vocabulary_size: int, units: int, conventions: str = "paper") -> None:
        super().__init__()
        self.forward_lstm = WordLSTM(vocabulary_size, units)
        self.backward_lstm = WordLSTM(vocabulary_size, units)
        self.h0 = nn.Parameter(torch.zeros(units))
        self.released = conventions == "released"

    def forward(self, ids: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """ids int64 [B, N], lengths int64 [B] -> h_lang [B, N, 2m], sentence [B, 2m].

        The last states of both directions.
        """
        ahead, last_ahead = self.forward_lstm(ids, lengths, self.h0, backwards=False)
        other = ids.flip(0) if self.released else ids
        back, last_back = self.backward_lstm(other, lengths, self.h0, backwards=not self.released)
        return torch.cat([ahead, back], 2), torch.cat([last_ahead, last_back], 1)
