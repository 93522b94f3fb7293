"""What the page answers: figures of captions, or a friendly line with captions that work. No state between calls."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

from aligndraw.demo.figure import drawing_figure
from aligndraw.pipelines import Drawing, Pipeline
from aligndraw.pipelines.card import Card, data_name
from aligndraw.pipelines.shipped import find_model
from aligndraw.text import CaptionError
from aligndraw.viz import changed_words

PICTURES = 4  # of each caption
NAMED_WORDS = 5  # of the unknown ones
SOME_WORDS = 24  # of a vocabulary, where no caption is known to work


@dataclasses.dataclass(frozen=True)
class Offer:
    """A model on the page.

    Attributes:
        name: on the page.
        plain: the model without its sharpener.
        sharp: the same model with its sharpener; None where it has none.
        card: what the model draws, and captions that work.
    """

    name: str
    plain: Pipeline
    sharp: Pipeline | None
    card: Card

    @classmethod
    def of(cls, source: str | Path, device: str = "cpu") -> Offer:
        """Returns the model of a source.

        Args:
            source: as for `Pipeline.from_pretrained`; errors are the same.

        Raises:
            ValueError: also for pictures that are neither grey nor RGB.
        """
        pipeline, folder = Pipeline.from_pretrained(source, device), find_model(source)
        channels = pipeline.model.config.channels
        if channels not in (1, 3):
            raise ValueError(f"the pictures of {source} must have 1 or 3 channels to be shown, got {channels}")
        card = Card.read(folder) or Card.of(folder, (), data_name(pipeline.notes), None, None)
        sharp = None if pipeline.sharpen is None else pipeline
        return cls(folder.name, dataclasses.replace(pipeline, sharpen=None), sharp, card)


def answer(offers: Mapping[str, Offer], name: str, captions: Sequence[str], seed: int | None, sharpen: bool) -> str:
    """Returns the figures of captions as HTML, or why one cannot be drawn and captions that work.

    Args:
        offers: the models of the page, by name.
        name: of the one that draws.
        captions: all are drawn from the same noise, each by itself. Words in which they differ are marked.
        seed: None for any.
        sharpen: whether a sharpener, where the model has one, finishes the pictures.
    """
    offer = offers[name]
    pipeline = (sharpen and offer.sharp) or offer.plain
    drawings: list[Drawing] = []
    for caption in captions:
        try:
            attention = not pipeline.lacks("attention")
            drawing = pipeline(caption, num_images_per_prompt=PICTURES, seed=seed, return_attention=attention)
        except CaptionError as error:
            return _refusal(offers, offer, caption, error)
        seed = drawing.seed
        drawings.append(drawing)
    changed = changed_words([" ".join(drawing.words[0]) for drawing in drawings])
    figures = "".join(drawing_figure(drawing, marks) for drawing, marks in zip(drawings, changed))
    remarks = "".join(f'<p class="remark">{escape(remark)}</p>' for c in captions if (remark := pipeline.remark(c)))
    return f"{_PLAYER if _has_steps(drawings[0]) else ''}<div class='drawings'>{figures}</div>{remarks}"


def invitation(offer: Offer, reason: str = "") -> str:
    """Returns what a model draws, with captions that work as buttons, as HTML.

    Args:
        reason: a line above, as text.
    """
    first = f'<p class="reason"><strong>{escape(reason)}</strong></p>' if reason else ""
    text = f"{first}<p>The model {escape(offer.name)} draws {escape(offer.card.draws)}. "
    if offer.card.captions:
        tries = "".join(f'<li><button type="button">{escape(c)}</button></li>' for c in offer.card.captions)
        return f'<div class="invitation">{text}Captions that work:</p><ul>{tries}</ul></div>'
    words = ", ".join([word for word in offer.plain.vocabulary.words if word.isalpha()][:SOME_WORDS])
    return f'<div class="invitation">{text}Some of its words: {escape(words)}.</p></div>'


def _refusal(offers: Mapping[str, Offer], offer: Offer, caption: str, error: CaptionError) -> str:
    if not error.unknown:
        return invitation(offer, f"{error}.")
    words = ", ".join(f"“{word}”" for word in error.unknown[:NAMED_WORDS])
    words += " …" * (len(error.unknown) > NAMED_WORDS)
    reason = f"The model {offer.name} does not know the word{'s' * (len(error.unknown) > 1)} {words}."
    others = [other.name for other in offers.values() if other is not offer and _reads(other, caption)]
    if others:
        reason += f" The model {others[0]} does: choose it above."
    return invitation(offer, reason)


def _reads(offer: Offer, caption: str) -> bool:
    try:
        offer.plain.reader.encode_batch([caption])
    except CaptionError:
        return False
    return True


def _has_steps(drawing: Drawing) -> bool:
    return drawing.samples.windows is not None


_PLAYER = (
    '<div class="player"><button type="button" class="play">Pause</button>'
    '<input type="range" min="0" value="0" aria-label="step"><output></output></div>'
)
