"""The result of a pipeline: pictures of captions, ready to show, save and convert."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

import aligndraw
from aligndraw.arguments import int_fault
from aligndraw.files import atomic_write
from aligndraw.model import Samples
from aligndraw.printable import counted
from aligndraw.viz import (
    Captioned,
    attention_figure,
    attention_panel,
    check_range,
    contact_sheet,
    save_animation,
    save_png,
)

Images: TypeAlias = "list[Image.Image] | Tensor | NDArray[np.float32]"
OUTPUT_TYPES = ("pil", "pt", "np")


@dataclass(frozen=True, eq=False, repr=False)
class Drawing:
    """n pictures per caption: first those of the first caption, then of the second, ...

    A notebook shows it as the sheet that `save` writes.

    Attributes:
        samples: the pictures and their steps as tensors.
        captions: one per n pictures.
        words: of each caption, as the model reads it.
        output_type: the form of `images`.
        attention: α, float32 [B, T, N], the weight of each word in each step; None unless it was asked for.
        seed: of the noise; None where generators gave it, or several seeds.
        temperature, steps: of the sampling.
        model: the name of the model.
    """

    samples: Samples
    captions: Sequence[str]
    words: Sequence[Sequence[str]]
    output_type: str = "pil"
    attention: Tensor | None = None
    seed: int | None = None
    temperature: float = 1.0
    steps: int = 1
    model: str = ""

    def __len__(self) -> int:
        return len(self.samples.images)

    def __repr__(self) -> str:
        count, channels, height, width = self.samples.images.shape
        colour = {1: "grey", 3: "colour"}.get(channels, f"{channels} channels")
        return (
            f"<Drawing: {counted(count, 'picture')} of {counted(len(self.captions), 'caption')}, {height} x {width} "
            f"{colour}, {'own noise' if self.seed is None else f'seed {self.seed}'}>"
        )

    @cached_property
    def images(self) -> Images:
        """The pictures by `output_type`: a list of images, a tensor [B, C, H, W] or an array [B, H, W, C] in [0, 1]."""
        if self.output_type == "pil":
            return self.pil()
        return self.samples.images if self.output_type == "pt" else self.arrays().transpose(0, 2, 3, 1)

    def arrays(self) -> NDArray[np.float32]:
        """Returns the pictures on the CPU, float32 [B, C, H, W] in [0, 1]."""
        pictures: NDArray[np.float32] = self.samples.images.float().cpu().numpy()
        return pictures

    def pil(self) -> list[Image.Image]:
        """Returns the pictures in their own size, in grey or RGB. Raises ValueError for another number of channels."""
        channels = self.samples.images.shape[1]
        if channels not in (1, 3):
            raise ValueError(f"pictures must have 1 or 3 channels, got {channels}: take output_type 'pt' or 'np'")
        pixels = np.rint(self.arrays() * 255).astype(np.uint8).transpose(0, 2, 3, 1)
        return [Image.fromarray(picture[:, :, 0] if channels == 1 else picture) for picture in pixels]

    def sheet(self, remarks: Sequence[str] = ()) -> Image.Image:
        """Returns all pictures, enlarged, above their captions.

        Args:
            remarks: one per caption, or none at all, to stand below it in another colour.

        Raises:
            ValueError: the pictures have another number of channels than 1 or 3, or the remarks are others.
        """
        count = len(self.captions)
        if isinstance(remarks, str) or len(remarks) not in (0, count) or not all(isinstance(r, str) for r in remarks):
            raise ValueError(f"remarks must be one line of text per caption, {count}, or none, got {remarks!r}")
        parts = np.split(self.arrays(), len(self.captions))
        return contact_sheet(
            [Captioned(*block) for block in zip(self.captions, parts, remarks or [""] * len(parts), strict=True)]
        )

    def save(self, path: str | Path, remarks: Sequence[str] = ()) -> None:
        """Writes the sheet into a .png file, or the pictures into an .npz archive; whole or not at all.

        The archive holds `images` float32 [B, C, H, W] and `captions`, one per picture. For single files, save the
        images of `pil()`.

        Args:
            remarks: as for `sheet`.

        Raises:
            ValueError: the path ends otherwise, or the pictures cannot be shown.
            OSError: the file cannot be written.
        """
        path = _ending(path, ".png", ".npz")
        if path.suffix.lower() == ".png":
            save_png(self.sheet(remarks), path, self._texts())
        else:
            write_archive(path, self.captions, [self.arrays()])

    def plot(self, path: str | Path | None = None, index: int = 0) -> Image.Image:
        """Returns one picture step by step, above the weights of its words in each step, and may write it as a .png.

        Args:
            path: of the file; None for none.
            index: of the picture.

        Raises:
            ValueError: the attention was not asked for, there is no such picture, or the path does not end in .png.
            OSError: the file cannot be written.
        """
        if self.attention is None:
            raise ValueError("plot needs the attention: draw with return_attention=True")
        if path is not None:
            path = _ending(path, ".png")
        if int_fault(index, 0, len(self)):
            raise ValueError(f"index must be in 0…{len(self) - 1}, got {index!r}")
        which = index * len(self.captions) // len(self)
        figure = attention_figure([attention_panel(self.samples, index, self.words[which])])
        if path is not None:
            save_png(figure, path, {"Caption": self.captions[which]})
        return figure

    def animate(self, path: str | Path) -> None:
        """Writes a .gif of the canvas over the steps, with the window of each; whole or not at all.

        Raises:
            ValueError: the model does not draw in steps, or the path does not end in .gif.
            OSError: the file cannot be written.
        """
        save_animation(self.samples, _ending(path, ".gif"))

    @classmethod
    def joined(cls, drawings: Sequence[Drawing]) -> Drawing:
        """Returns drawings with the same settings as one; the attention to shorter captions is padded with 0.

        Args:
            drawings: at least one. The result has a seed where all have the same.

        Raises:
            ValueError: there are none, or they differ in their pictures per caption or in another setting.
        """
        if not drawings:
            raise ValueError("drawings must hold at least one, got none")
        settings = [drawing._settings() for drawing in drawings]
        for other in settings[1:]:
            for name, value in settings[0].items():
                if other[name] != value:
                    raise ValueError(f"drawings must have the same {name}, got {value!r} and {other[name]!r}")
        seeds = {drawing.seed for drawing in drawings}
        samples = Samples.joined([drawing.samples for drawing in drawings])
        return replace(
            drawings[0],
            samples=samples,
            captions=[caption for drawing in drawings for caption in drawing.captions],
            words=[words for drawing in drawings for words in drawing.words],
            attention=None if drawings[0].attention is None else samples.weights,
            seed=seeds.pop() if len(seeds) == 1 else None,
        )

    def _settings(self) -> dict[str, object]:
        """Returns what drawings must have in common to be one."""
        return {
            "pictures per caption": len(self) // len(self.captions),
            "picture shape": list(self.samples.images.shape[1:]),
            "output_type": self.output_type,
            "temperature": self.temperature,
            "steps": self.steps,
            "model": self.model,
            "return_attention": self.attention is not None,
        }

    def _texts(self) -> dict[str, str]:
        """Returns the metadata of a .png file."""
        return {
            "Software": f"aligndraw {aligndraw.__version__}",
            "Caption": "\n".join(self.captions),
            **({} if self.seed is None else {"Seed": str(self.seed)}),
            "Temperature": f"{self.temperature:g}",
            "Steps": str(self.steps),
            "Model": self.model.encode("utf-8", "surrogateescape").decode("utf-8", "replace"),
        }

    def _repr_png_(self) -> bytes:
        file = io.BytesIO()
        self.sheet().save(file, format="PNG")
        return file.getvalue()


def write_archive(path: Path, captions: Sequence[str], parts: Sequence[NDArray[Any]]) -> None:
    """Writes an .npz archive of the pictures of captions, the same number of each.

    It holds `images` float32 [B, C, H, W] in [0, 1] and `captions`, one per picture.

    Args:
        parts: the pictures in their order, in parts [n, C, H, W].

    Raises:
        ValueError: pixels outside [0, 1].
        OSError: it cannot be written.
    """
    arrays = np.concatenate(parts)
    check_range(arrays)
    with atomic_write(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, images=arrays, captions=np.repeat(captions, len(arrays) // len(captions)))


def _ending(path: str | Path, *suffixes: str) -> Path:
    if not isinstance(path, (str, Path)) or Path(path).suffix.lower() not in suffixes:
        shown = str(path) if isinstance(path, Path) else path
        raise ValueError(f"path must end in {' or '.join(suffixes)}, got {shown!r}")
    return Path(path)
