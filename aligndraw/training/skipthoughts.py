"""Training of skip-thoughts (Kiros et al., 2015): sentence encodings that predict the neighbouring sentences.

With h the encoding of a sentence, and f, b the next and the previous sentence:

    loss = − Σ_i log p(f_i | f_<i, h) − Σ_i log p(b_i | b_<i, h)

by two decoders whose first state is h and which share the encoder's word vectors. As in the released code, every
sequence ends in <eos>, the decoders' first input is zero, gradients are clipped at norm 5, and Adam's step size is
2e-4.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_sequence

from aligndraw.arguments import check_path
from aligndraw.printable import counted
from aligndraw.settings import Config, setting
from aligndraw.text.skipthoughts import END, UNKNOWN, from_gru, prefixes, write_skipthoughts
from aligndraw.text.vocabulary import check_several
from aligndraw.text.words import RULE, legacy_rule, treebank_words
from aligndraw.training.expansion import shared_vectors
from aligndraw.training.guards import check_finite, listed
from aligndraw.training.run import RunFolder, TrainingSetup
from aligndraw.training.state import Resumable

Sentences = Sequence[Sequence[int]]  # word ids, without <eos>

_NOWHERE = -100  # the target of padding, which the loss ignores


@dataclass(frozen=True)
class SkipThoughtsConfig(Config):
    """The shape of a model; the defaults are those of the released uni-skip."""

    direction: str = setting("uni", "uni: one encoder; bi: one per direction, concatenated", ("uni", "bi"))
    words: int = setting(20_000, "K, size of the vocabulary: the most frequent words, <eos> and UNK included")
    word_units: int = setting(620, "e, size of a word vector")
    units: int = setting(2400, "units of each encoder; a decoder has as many as all encoders together")

    def __post_init__(self) -> None:
        self._check()
        if self.words < 3:
            raise ValueError(f"words must be at least 3, got {self.words}")


@dataclass(frozen=True)
class SkipThoughtsRecipe(Config):
    """How a model is trained; the defaults are those of the released code."""

    epochs: int = setting(5, "epochs of all triples of consecutive sentences")
    batch_size: int = setting(64, "triples per update")
    learning_rate: float = setting(2e-4, "step size of Adam")
    clip_norm: float = setting(5.0, "largest global norm of the gradient")
    max_words: int = setting(30, "a longer sentence separates two texts, and no triple has one")

    def __post_init__(self) -> None:
        self._check()
        for name in ("learning_rate", "clip_norm"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be above 0, got {getattr(self, name)!r}")


PRESETS = {"released": (SkipThoughtsConfig(), SkipThoughtsRecipe())}


class SkipThoughtsRun(RunFolder[SkipThoughtsConfig, SkipThoughtsRecipe]):
    """The run folder of skip-thoughts."""

    MODEL, TRAINING = SkipThoughtsConfig, SkipThoughtsRecipe


@dataclass(frozen=True, eq=False)
class Triples:
    """Triples of consecutive sentences, as word ids.

    Attributes:
        words: the vocabulary: <eos>, UNK, then by frequency.
        sentences: ids of each sentence, without <eos>.
        middles: one position i per triple, of the sentences i − 1, i and i + 1.
        rule: of `aligndraw.text.words`, which splits the sentences.
    """

    words: list[str]
    sentences: list[list[int]]
    middles: list[int]
    rule: int

    @classmethod
    def of(cls, lines: Iterable[str], words: int, max_words: int, rule: int = RULE) -> Triples:
        """Returns the triples of sentences, one per line. An empty or too long line separates two texts.

        Raises:
            ValueError: the lines are no list of strings, or no three sentences follow each other.
        """
        split = [treebank_words(line, rule) for line in check_several(lines)]
        counts = Counter(word for sentence in split for word in sentence if word not in (END, UNKNOWN))
        known = [END, UNKNOWN, *(word for word, _ in counts.most_common(words - 2))]
        ids = {word: i for i, word in enumerate(known)}
        sentences = [[ids.get(word, 1) for word in sentence] for sentence in split]
        good = [0 < len(sentence) <= max_words for sentence in split]
        middles = [i for i in range(1, len(split) - 1) if good[i - 1] and good[i] and good[i + 1]]
        if not middles:
            raise ValueError(f"no three sentences of at most {counted(max_words, 'word')} follow each other")
        return cls(known, sentences, middles, rule)

    @classmethod
    def read(cls, file: str | Path, words: int, max_words: int, rule: int | None = RULE) -> tuple[Triples, str]:
        """Returns the triples of a UTF-8 text file, as `of` does, and the SHA-256 of the file.

        Args:
            rule: None is the rule of version 0.1.

        Raises:
            ValueError: the file cannot be read, or no three sentences follow each other.
        """
        try:
            content = check_path("file", file).read_bytes()
            lines = content.decode("utf-8").split("\n")
        except OSError as error:
            raise ValueError(f"cannot read {file}: {error.strerror}") from error
        except UnicodeDecodeError as error:
            raise ValueError(f"{file} must be UTF-8 text: {error}") from error
        known = legacy_rule(lines) if rule is None else rule
        try:
            triples = cls.of(lines, words, max_words, known)
        except ValueError as error:
            raise ValueError(f"{file}: {error}") from error
        return triples, hashlib.sha256(content).hexdigest()


class SkipThoughtsModel(nn.Module):
    """An encoder, two decoders, and the word vectors and output layer that they share.

    Initialisation: orthogonal recurrent weights, other weights uniform in ±0.1, biases zero.
    """

    def __init__(self, config: SkipThoughtsConfig, words: int) -> None:
        super().__init__()
        both = config.direction == "bi"
        states = config.units * (1 + both)
        self.words = nn.Embedding(words, config.word_units)
        self.encoder = nn.GRU(config.word_units, config.units, batch_first=True, bidirectional=both)
        self.following = nn.GRU(config.word_units, states, batch_first=True)
        self.previous = nn.GRU(config.word_units, states, batch_first=True)
        self.output = nn.Linear(states, words)
        for name, parameter in self.named_parameters():
            if "bias" in name:
                nn.init.zeros_(parameter)
            elif "weight_hh" in name:
                for gate in parameter.data.chunk(3):
                    nn.init.orthogonal_(gate)
            else:
                nn.init.uniform_(parameter, -0.1, 0.1)
        for gru in (self.encoder, self.following, self.previous):  # the published cell has one bias per gate
            for name, parameter in gru.named_parameters():
                parameter.requires_grad_("bias_hh" not in name)

    def forward(self, middle: Sentences, following: Sentences, previous: Sentences) -> tuple[Tensor, int]:
        """Returns the loss of a batch of B triples of lists of word ids, summed over words, and the number of words."""
        packed = self._packed(middle)
        state = self.encoder(packed)[1].transpose(0, 1).flatten(1)[None]  # [1, B, states]
        losses, words = [], 0
        for decoder, target in ((self.following, following), (self.previous, previous)):
            targets = self._padded(target, _NOWHERE)  # [B, N], <eos> last
            read = self.words(targets.clamp(min=0))[:, :-1]
            inputs = nn.functional.pad(read, (0, 0, 1, 0))  # shifted: the first input is zero
            logits = self.output(decoder(inputs, state)[0]).mT  # [B, K, N]
            losses.append(cross_entropy(logits, targets, ignore_index=_NOWHERE, reduction="sum"))
            words += int((targets != _NOWHERE).sum())
        return torch.stack(losses).sum(), words

    def _padded(self, sentences: Sentences, padding: int) -> Tensor:
        rows = [torch.tensor([*sentence, 0]) for sentence in sentences]
        return pad_sequence(rows, batch_first=True, padding_value=padding).to(self.output.weight.device)

    def _packed(self, sentences: Sentences) -> PackedSequence:
        lengths = torch.tensor([len(sentence) + 1 for sentence in sentences])
        return pack_padded_sequence(self.words(self._padded(sentences, 0)), lengths, True, enforce_sorted=False)


@dataclass(frozen=True)
class SkipThoughtsUpdate:
    """The metrics of one update."""

    index: int  # from 0
    epoch: int  # from 0
    loss: float  # nats per word
    gradient_norm: float

    def numbers(self) -> dict[str, float]:
        """Returns the loss and the norm of the gradient."""
        return {"loss": self.loss, "gradient_norm": self.gradient_norm}


class SkipThoughtsTrainer(Resumable[SkipThoughtsUpdate]):
    """Trains skip-thoughts. `state_dict` holds all that the next `update` depends on.

    Args:
        model: trained in place.
        data: the triples.
        recipe: how it is trained.
        seed: of the order of the triples in each epoch.
    """

    SHARED = True
    model: SkipThoughtsModel

    def __init__(self, model: SkipThoughtsModel, data: Triples, recipe: SkipThoughtsRecipe, seed: int = 0) -> None:
        super().__init__(model, torch.optim.Adam(model.parameters(), lr=recipe.learning_rate))
        self.data, self.recipe, self.seed = data, recipe, seed
        self._exchange = self.ranks.exchange(model)

    @property
    def updates_per_epoch(self) -> int:
        return -(-len(self.data.middles) // self.recipe.batch_size)

    @property
    def total(self) -> int:
        """Updates in the whole training."""
        return self.recipe.epochs * self.updates_per_epoch

    def update(self) -> SkipThoughtsUpdate:
        """Runs one update.

        Raises:
            aligndraw.training.guards.NotFinite: the loss or the gradient is not finite; the model keeps its parameters.
        """
        epoch, middles = self.index // self.updates_per_epoch, self._middles(self.index)
        sentences = self.data.sentences
        own = middles[self.ranks.share(range(len(middles)))]
        loss, words = self.model(*([sentences[i + away] for i in own or middles[:1]] for away in (0, 1, -1)))
        counts = 1.0 if own else 0.0  # a process without a triple takes part with nothing
        self.optimizer.zero_grad()
        loss.backward(torch.full_like(loss, counts))
        sums, marks = self._exchange.finish(counts * torch.stack([loss.detach(), loss.new_tensor(words)]))
        total, words = sums.unbind()
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), self.recipe.clip_norm)
        check_finite([norm], total, self.index, self.batch_name(self.index), marks=marks)
        self.optimizer.step()
        self.index += 1
        return SkipThoughtsUpdate(self.index - 1, epoch, (total / words).item(), norm.item())

    def _middles(self, index: int) -> list[int]:
        """Returns the middle sentences of the triples of an update."""
        epoch, position = divmod(index, self.updates_per_epoch)
        order = np.random.default_rng([self.seed, epoch]).permutation(self.data.middles)
        middles: list[int] = order[position * self.recipe.batch_size :][: self.recipe.batch_size].tolist()
        return middles

    def batch_name(self, index: int) -> str:
        return listed("the triples around sentences", self._middles(index))


class SkipThoughtsSetup(TrainingSetup):
    """The training of skip-thoughts.

    Args:
        settings: "text" and "word_vectors", paths; "word_rule", which splits sentences; "seed".
        model, recipe: the model and how it is trained.
        device: of the model.

    Attributes:
        data: the triples.

    Raises:
        FileNotFoundError: there are no word vectors.
        ValueError: the text cannot be read, or the word vectors are damaged or share too few words with it.
    """

    RUN, PRESETS = SkipThoughtsRun, PRESETS
    SETTINGS = {"text": (str,), "word_vectors": (str, type(None)), "word_rule": (int, type(None)), "seed": (int,)}
    model_config: SkipThoughtsConfig
    trainer: SkipThoughtsTrainer

    def __init__(
        self, settings: Mapping[str, Any], model: SkipThoughtsConfig, recipe: SkipThoughtsRecipe, device: str
    ) -> None:
        self.settings, self.model_config = settings, model
        self.data, checksum = Triples.read(settings["text"], model.words, recipe.max_words, settings["word_rule"])
        if settings["word_vectors"] is not None:
            shared_vectors(self.data.words, settings["word_vectors"])  # a damaged file is refused before the training
        self.origins = {"sha256": (checksum, settings["text"])}
        with torch.random.fork_rng(devices=()):
            torch.default_generator.manual_seed(settings["seed"])
            network = SkipThoughtsModel(model, len(self.data.words))
        self.trainer = SkipThoughtsTrainer(network.to(device), self.data, recipe, settings["seed"])

    def description(self) -> str:
        parameters = sum(p.numel() for p in self.trainer.model.parameters() if p.requires_grad)
        triples, words, updates = len(self.data.middles), len(self.data.words), self.trainer.total
        return (
            f"{parameters:,} parameters on {counted(triples, 'triple')} of sentences, "
            f"{counted(words, 'word')}: {counted(updates, 'update')}"
        )


def save_skipthoughts(model: SkipThoughtsModel, words: Sequence[str], folder: Path, rule: int = RULE) -> None:
    """Writes the encoder in the released form, for `aligndraw.text.skipthoughts.SkipThoughts`.

    Args:
        words: the vocabulary.
        rule: that split the sentences into words.

    Raises:
        OSError: it cannot be written; each file appears whole or not at all.
    """
    name = "bi" if model.encoder.bidirectional else "uni"
    table = model.words.weight.detach().cpu().numpy()
    write_skipthoughts(folder, name, {"Wemb": table, **from_gru(model.encoder, prefixes(name))}, words, [table], rule)
