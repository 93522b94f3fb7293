"""The sentence encoders of models that read sentence vectors."""

from __future__ import annotations

from aligndraw.config import ModelConfig
from aligndraw.data import SentenceReader
from aligndraw.printable import counted
from aligndraw.text.sentences import absolute_specification, open_encoder


def with_sentences(model: ModelConfig) -> tuple[ModelConfig, SentenceReader | None]:
    """Returns the configuration with its sentence encoder's path and size, and the reader; None for a model of words.

    Raises:
        ValueError: there is no such encoder, or its vectors are of another size than the model's.
    """
    if model.sentences == "caption":
        if model.sentence_units:
            raise ValueError(
                f"sentences must name an encoder of {counted(model.sentence_units, 'number')}, got 'caption'"
            )
        return model, None
    specification = absolute_specification(model.sentences)
    reader = open_sentences(specification, model.sentence_units)
    return model.replace(sentences=specification, sentence_units=reader.units), reader


def open_sentences(specification: str, units: int) -> SentenceReader:
    """Returns a reader of `units` numbers per vector, of any number for 0; errors as in `with_sentences`."""
    try:
        reader = SentenceReader(open_encoder(specification))
    except OSError as error:
        raise ValueError(f"sentences must be there to be read, got {specification!r}: {error}") from error
    if units not in (0, reader.units):
        raise ValueError(
            f"sentence_units must be {reader.units} for {specification}, the size of its vectors, got {units}"
        )
    return reader
