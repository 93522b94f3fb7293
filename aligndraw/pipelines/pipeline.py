"""From captions to pictures: a model with a reader of captions."""

from __future__ import annotations

import dataclasses
import tempfile
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from PIL import Image

from aligndraw.arguments import check_bool, check_choice, check_int, check_parts, check_seed
from aligndraw.data import CaptionReader, Examples, SentenceReader
from aligndraw.data.rewording import RewordedExamples
from aligndraw.evaluation.drawing import Sharpen
from aligndraw.info import device_fault
from aligndraw.lapgan import sharpen as sharpener_files
from aligndraw.lapgan.captioned import CaptionedSharpener
from aligndraw.model import PictureModel, Samples, has_bound
from aligndraw.model.graphs import GraphedSampler
from aligndraw.noise import stream
from aligndraw.pipelines.drawing import OUTPUT_TYPES, Drawing
from aligndraw.pipelines.hub import upload
from aligndraw.pipelines.shipped import find_model, model_name
from aligndraw.pipelines.storage import About, Parts, read_folder, write_folder
from aligndraw.text import Vocabulary, WordPairs
from aligndraw.text.vocabulary import check_captions

MAX_UNLIKE = 0.2  # the share of a caption's words that may follow others than in training, without a remark
SEEDS = 2**32  # of calls without a seed: short enough to type
# Called with the pipeline, the step from 0, the number of steps to come, and the values after the step.
OnStep = Callable[["Pipeline", int, int, Mapping[str, Any]], Any]


class CaptionWarning(UserWarning):
    """A caption is worded unlike those of the training, or has words that they lack."""


@dataclass(eq=False, repr=False)
class Pipeline:
    """A model with a reader of captions.

        pipe = Pipeline.from_pretrained("mnist")
        pipe("the digit seven is at the top left of the image").save("seven.png")

    Attributes:
        model: of any kind.
        vocabulary: the model's words; for a model of sentence vectors, those of its training data.
        notes: how the model came about.
        sentences: encodes captions, for a model of sentence vectors.
        sharpen: maps captions and images to sharp images, such as an `aligndraw.lapgan.captioned.CaptionedSharpener`.
        name: of the model, in messages and files.
    """

    model: PictureModel
    vocabulary: Vocabulary
    notes: Mapping[str, Any] = field(default_factory=dict)
    sentences: SentenceReader | None = None
    sharpen: Sharpen | None = None
    name: str = ""

    def __new__(cls, *parts: Any, **named: Any) -> Pipeline:
        check_parts("Pipeline.from_pretrained", parts[0] if parts else None)
        return super().__new__(cls)

    @classmethod
    def from_pretrained(
        cls,
        source: str | Path,
        device: torch.device | str = "cpu",
        *,
        sentences: str | None = None,
        sharpen: bool = True,
        revision: str | None = None,
        token: str | None = None,
    ) -> Pipeline:
        """Returns the model of a source, on a device.

        Args:
            source: a folder, the name of a model that ships (`aligndraw models`), or OWNER/NAME on the Hugging Face
                hub, in this order.
            sentences: the sentence encoder, as for `aligndraw.text.sentences.open_encoder`, where that of the training
                has moved.
            sharpen: false leaves a sharpener in the folder aside.
            revision, token: of the hub.

        Raises:
            FileNotFoundError: there is no such model.
            OSError: the hub cannot be read.
            ValueError: the source is neither text nor a path, or is empty; or the model is damaged, foreign or does not
                fit its vocabulary or its sentence encoder.
        """
        device = _checked_device(device)
        folder = find_model(source, revision=revision, token=token)
        pipeline = cls(*read_folder(folder, sentences), name=model_name(source, folder)).to(device)
        has_sharpener = (folder / sharpener_files.NAMES[1]).is_file()
        return pipeline.with_sharpener(folder) if sharpen and has_sharpener else pipeline

    def with_sharpener(self, folder: str | Path) -> Pipeline:
        """Returns the pipeline with the sharpener of a folder.

        Raises:
            FileNotFoundError: there is none.
            ValueError: it is damaged, or does not fit the model.
        """
        sharpen = CaptionedSharpener.load(folder, self.model.language, self.vocabulary, device=self.device)
        ours, theirs = ((c.channels, *c.image_size) for c in (sharpen.config, self.model.config))
        if ours != theirs:
            raise ValueError(
                f"the sharpener in {folder} must be for pictures {shape_text(theirs)}, those of the model, "
                f"got {shape_text(ours)}"
            )
        return dataclasses.replace(self, sharpen=sharpen)

    def save_pretrained(
        self,
        folder: str | Path,
        *,
        dtype: torch.dtype | None = None,
        draws: str | None = None,
        captions: Sequence[str] | None = None,
        facts: Mapping[str, str] | None = None,
        pictures: Image.Image | None = None,
    ) -> None:
        """Writes the model, its sharpener and a card into a folder, which is made if need be.

        `from_pretrained` reads it, and checks the checksums of the card.

        Args:
            dtype: of the stored floats, one of `aligndraw.module_files.DTYPES`; None for float32. float16 halves the
                files.
            draws: what the model draws, for the card: one line.
            captions: some that work, for the card. By default both are known for models of the package's own data.
            facts: lines for the card's table, by name, such as {"hardware": "two cores"}.
            pictures: an image for the card, such as `Drawing.sheet()`.

        Raises:
            ValueError: the folder holds a training or files of other programs in the places of a model's, the
                parameters do not fit the dtype, a caption cannot be read, an option is no line of text, or the
                sharpener is no `CaptionedSharpener`.
            OSError: a file cannot be written. After each of these errors the folder is as it was.
        """
        if not isinstance(folder, (str, Path)) or folder == "":
            raise ValueError(f"folder must be a path, got {folder!r}")
        if captions is not None:
            self.reader.encode_batch(check_captions(captions))
        sharpen = self.sharpen
        if sharpen is not None and not isinstance(sharpen, CaptionedSharpener):
            raise ValueError(f"sharpen must be a CaptionedSharpener to be saved, got {sharpen!r}")
        parts = Parts(self.model, self.vocabulary, self.notes, self.sentences)
        sharpener = None if sharpen is None else sharpen.sharpener
        write_folder(Path(folder), parts, sharpener, dtype, About(draws, captions, facts, pictures))

    def push_to_hub(
        self,
        repository: str,
        *,
        private: bool | None = None,
        token: str | None = None,
        commit_message: str = "Upload an aligndraw model",
        **saving: Any,
    ) -> str:
        """Writes what `save_pretrained` writes into a repository of the Hugging Face hub.

        Args:
            repository: OWNER/NAME; made if need be.
            private, token, commit_message: as in `huggingface_hub`.
            saving: options of `save_pretrained`.

        Returns:
            the address of the commit.

        Raises:
            ValueError: as `save_pretrained`; also where `huggingface_hub` is not installed.
            OSError: the repository cannot be written.
        """
        with tempfile.TemporaryDirectory() as place:
            folder = Path(place) / Path(repository).name
            self.save_pretrained(folder, **saving)
            return upload(folder, repository, private=private, token=token, message=commit_message)

    def __repr__(self) -> str:
        sharp = ", sharpened" if self.sharpen else ""
        return f"<Pipeline: {self.name or 'unnamed'}, {self.model.config.title}{sharp}, {self.device}>"

    @property
    def device(self) -> torch.device:
        """The device of the model."""
        return next(self.model.parameters()).device

    def to(self, device: torch.device | str) -> Pipeline:
        """Moves the model and its sharpener to a device; returns the pipeline.

        Raises:
            ValueError: there is no such device.
        """
        device = _checked_device(device)
        if device != self.device:
            self.model.to(device)
            vars(self).pop("_sampler", None)  # it belongs to the former device
            if isinstance(self.sharpen, CaptionedSharpener):
                self.sharpen = self.sharpen.to(device)
        return self

    @property
    def reader(self) -> CaptionReader:
        """Reads captions for the model: by its sentence encoder, or by the vocabulary."""
        return self.sentences or self.vocabulary

    def read(self, examples: Examples, words: Vocabulary | None = None) -> Examples:
        """Returns examples in the form that the model takes.

        Args:
            words: the vocabulary of the examples' word ids; None for the model's own.
        """
        if self.sentences:
            return self.sentences.examples(examples)
        return examples if words in (None, self.vocabulary) else RewordedExamples(examples, self.vocabulary)

    def unknown_words(self, captions: Iterable[str], words: Vocabulary) -> list[str]:
        """Returns the distinct words of captions that the model lacks; none for a model of sentence vectors.

        Args:
            words: the vocabulary of the captions. A model that has all of it is not asked for each caption.
        """
        if self.sentences or self.vocabulary.has_words(words):
            return []
        return list(dict.fromkeys(word for caption in captions for word in self.vocabulary.unknown_words(caption)))

    def lacks(self, feature: str) -> str:
        """Returns why a model has no "attention" or no "steps", to stand behind the name of an option; "" if it has."""
        title = self.model.config.title
        if feature == "attention" and not self.model.attends:
            return f"needs a model that attends to words, got a {title}"
        if feature == "steps" and not self.model.config.in_steps:
            return f"needs a model that draws in steps, got a {title}"
        return ""

    def remark(self, caption: str) -> str:
        """Returns one line for a caption that is worded unlike those of the training; "" for others.

        A caption is unlike them where `[UNK]` stands for one of its words, or where more than a fifth of its words
        follow neither the word before them there, nor a word of the same use (`WordPairs.unlike`). Models of free
        captions, in which new pairs of words are common, say nothing of pairs.

        Raises:
            CaptionError: as a call.
        """
        if not self.sentences and (unknown := self.vocabulary.remark(caption)):
            return unknown
        words, pairs = self._words(caption), self._word_pairs
        unlike = pairs.unlike(words) if pairs else []
        if len(unlike) <= MAX_UNLIKE * len(words):
            return ""
        before, word = unlike[0]
        after = f'has "{word}" after "{before}"' if before else f'begins with "{word}"'
        if word == "." and before:
            after = f'ends with "{before}"'
        return f'caption "{caption}" is worded unlike the training captions, of which none {after}'

    def __call__(
        self,
        prompt: str | Sequence[str],
        *,
        num_images_per_prompt: int = 1,
        seed: int | None = None,
        generator: torch.Generator | Sequence[torch.Generator] | None = None,
        temperature: float = 1.0,
        steps: int | None = None,
        output_type: str = "pil",
        return_attention: bool = False,
        callback_on_step_end: OnStep | None = None,
    ) -> Drawing:
        """Draws pictures of a caption, or of several: first those of the first caption, then of the second, ...

        With a seed, picture i of every caption comes from the same noise, which only the seed and i determine. It
        depends neither on the number of pictures nor on the other captions, so two captions show the effect of their
        words.

        Args:
            prompt: a caption or a list, in words of the vocabulary, or readable by the sentence encoder. Where the
                vocabulary has `[UNK]`, it stands for other words, with a warning.
            num_images_per_prompt: at least 1.
            seed: at least 0, below 2^63. Without seed and generator one is drawn from PyTorch's generator; `seed` of
                the result tells it.
            generator: of the noise, in place of a seed: a list with one per picture; or one, from which all pictures
                take their noise in turn.
            temperature: factor of the prior's σ, at least 0; 0 draws the mean.
            steps: T, at least 1; None for the model's.
            output_type: the form of `images`: "pil", "pt" or "np".
            return_attention: whether the result has the weights of the words in each step.
            callback_on_step_end: called for each step, in order, with the pipeline, the step from 0, the number of
                steps to come, and copies of values: "canvas", the pictures after the step [B, C, H, W]; "window"
                [B, 5]; and "attention" [B, N] or None. The steps are one op, so the calls come when it is done: the
                pictures are the same with and without them. An error of the callback ends the call.

        Raises:
            ValueError: an argument is out of range, or the model lacks steps or attention;
                `aligndraw.text.CaptionError`, for a caption that cannot be read.
        """
        n = check_int("num_images_per_prompt", num_images_per_prompt, 1)
        check_choice("output_type", output_type, OUTPUT_TYPES)
        check_bool("return_attention", return_attention)
        seed = None if seed is None else check_seed(seed)
        steps = None if steps is None else check_int("steps", steps, 1)
        if not (callback_on_step_end is None or callable(callback_on_step_end)):
            raise ValueError(f"callback_on_step_end must be callable, got {callback_on_step_end!r}")
        captions = check_captions([prompt] if isinstance(prompt, (str, bytes, Path)) else prompt)
        for name, given, feature in (
            ("steps", steps is not None, "steps"),
            ("callback_on_step_end", callback_on_step_end is not None, "steps"),
            ("return_attention", return_attention, "attention"),
        ):
            if given and (fault := self.lacks(feature)):
                raise ValueError(f"{name} {fault}")
        if generator is None:
            seed = int(torch.randint(SEEDS, ()).item()) if seed is None else seed
            generators = [stream(seed, i) for _ in captions for i in range(n)]
        elif seed is not None:
            raise ValueError(f"seed must be left out where a generator is given, got {seed}")
        else:
            generators = _generators(generator, n * len(captions))
        samples = self._sample(captions, n, generators, temperature, steps)
        for caption in dict.fromkeys(captions):
            if remark := self.remark(caption):
                warnings.warn(remark, CaptionWarning, stacklevel=2)
        if callback_on_step_end is not None:
            self._replay(samples, callback_on_step_end)
        return Drawing(
            samples,
            captions,
            [self._words(caption) for caption in captions],
            output_type=output_type,
            attention=samples.weights if return_attention else None,
            seed=seed,
            temperature=temperature,
            steps=self.model.config.steps if steps is None else steps,
            model=self.name,
        )

    @cached_property
    def _sampler(self) -> GraphedSampler | PictureModel:
        return GraphedSampler(self.model) if has_bound(self.model) else self.model

    @cached_property
    def _word_pairs(self) -> WordPairs | None:
        pairs = self.notes.get("word_pairs")
        return None if pairs is None else WordPairs.from_dict(pairs)

    def _words(self, caption: str) -> list[str]:
        """Returns the words of a caption as the model reads them; of sentence vectors, those between spaces."""
        return caption.split() if self.sentences else self.vocabulary.decode(self.vocabulary.encode(caption)).split()

    def _sample(
        self,
        captions: Sequence[str],
        n: int,
        generators: Sequence[torch.Generator],
        temperature: float,
        steps: int | None,
    ) -> Samples:
        read, lengths = self.reader.encode_batch(captions)
        if self.model.mixes_captions:
            different = {self.vocabulary.decode(row[:k]) for row, k in zip(read, lengths.tolist())}
            if len(different) > 1:
                raise ValueError(
                    "captions must be the same for a model of the released conventions, whose language "
                    f"model mixes those of a batch, got {len(different)} captions: draw one at a time"
                )
        samples = self._sampler.sample(
            read.repeat_interleave(n, 0).to(self.device),
            lengths.repeat_interleave(n, 0).to(self.device),
            generator=generators,
            temperature=temperature,
            steps=steps,
        )
        if self.sharpen is not None:
            samples.images = self.sharpen([caption for caption in captions for _ in range(n)], samples.images)
        return samples

    def _replay(self, samples: Samples, on_step: OnStep) -> None:
        """Calls a function for each step of samples, with copies, which it may change."""
        assert samples.windows is not None  # `lacks` has checked it
        pictures, count = samples.canvases.sigmoid(), samples.windows.shape[1]
        for step in range(count):
            weights = None if samples.weights is None else samples.weights[:, step].clone()
            window = samples.windows[:, step].clone()
            values = {"canvas": pictures[:, step], "window": window, "attention": weights}
            on_step(self, step, count - step - 1, MappingProxyType(values))


def shape_text(shape: Sequence[int]) -> str:
    """Returns the shape (C, H, W) of pictures in words, such as "of 32 x 32 pixels in 3 channels"."""
    channels, height, width = shape
    return f"of {height} x {width} pixels in {'grey' if channels == 1 else f'{channels} channels'}"


def _generators(given: torch.Generator | Sequence[torch.Generator], count: int) -> list[torch.Generator]:
    """Returns one generator per picture. Raises ValueError for anything but one, or a list of `count`."""
    if isinstance(given, torch.Generator):
        return [given] * count
    rule = f"generator must be a torch.Generator, or a list with one per picture, {count}"
    if isinstance(given, str) or not isinstance(given, Sequence):
        raise ValueError(f"{rule}, got {type(given).__name__}")
    if len(given) != count:
        raise ValueError(f"{rule}, got a list of {len(given)}")
    for one in given:
        if not isinstance(one, torch.Generator):
            raise ValueError(f"{rule}, got a list with {type(one).__name__}")
    return list(given)


def _checked_device(device: torch.device | str) -> torch.device:
    if fault := device_fault(str(device)):
        raise ValueError(f"device {fault}")
    return torch.device(device)
