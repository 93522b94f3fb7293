"""The model that ships whose vocabulary knows the words of captions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from aligndraw.cli.failure import Failure, failing
from aligndraw.pipelines.card import Card
from aligndraw.pipelines.shipped import NONE_SHIPS, shipped_models
from aligndraw.pipelines.storage import read_reader
from aligndraw.text import CaptionError, Vocabulary


def shipped_model_for(captions: Mapping[int, str], file: Path | None) -> tuple[Path, str]:
    """Returns the folder of the model that ships and reads all captions, and a line that says so.

    Of several, the one whose training captions are worded most like them.

    Args:
        captions: by the number of the line.
        file: of the captions, one per line; None where the command line gives them.

    Raises:
        Failure: a caption is empty, too long or no text; or no model knows all words, with hints what each one draws.
    """
    models = shipped_models()
    if not models:
        raise Failure(NONE_SHIPS)
    unlike: dict[str, int] = {}
    draws: dict[str, str] = {}
    hints: list[str] = []
    for name, folder in models.items():
        with failing(ValueError):
            (vocabulary, pairs), card = read_reader(folder), Card.read(folder)
        assert card is not None  # it makes the folder a model that ships
        draws[name], fault = card.draws, _fault(vocabulary, captions, file)
        if fault:
            hints += [f"{name} draws {card.draws}: {fault}", f"    captions that work: {quoted(card.captions)}"]
        else:
            texts = (vocabulary.decode(vocabulary.encode(caption)).split() for caption in captions.values())
            unlike[name] = sum(len(pairs.unlike(words)) for words in texts)
    if not unlike:
        raise Failure("no model that ships knows all words of the captions", status=2, hints=hints)
    chosen = min(unlike, key=lambda name: unlike[name])
    return models[chosen], f"drawn by the model {chosen}, which ships: {draws[chosen]}"


def quoted(captions: Sequence[str]) -> str:
    """Returns captions in quotes, on one line."""
    return "; ".join(f'"{caption}"' for caption in captions)


def _fault(vocabulary: Vocabulary, captions: Mapping[int, str], file: Path | None) -> str:
    """Returns why a vocabulary lacks words of captions, "" where it has all.

    Raises:
        Failure: a caption that no vocabulary reads.
    """
    for line, caption in captions.items():
        try:
            vocabulary.encode(caption)
            vocabulary.check_known([caption])
        except CaptionError as error:
            text = f"{file}, line {line}: {error}" if file else str(error)
            if not error.unknown:
                raise Failure(text, status=2) from error
            return text
    return ""
