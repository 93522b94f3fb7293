"""The authors' released parameters: 33 named arrays, to and from an `AlignDRAW`; and 8 of their sharpener.

Their matrices are inputs × outputs, their windows in the order (g̃_X, g̃_Y, log δ̃, log σ², log γ).
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from aligndraw.config import AlignDRAWConfig
from aligndraw.files import h5_array
from aligndraw.lapgan.captioned import sentence_notes
from aligndraw.lapgan.config import SharpenerConfig
from aligndraw.lapgan.sharpen import Sharpener
from aligndraw.model import AlignDRAW
from aligndraw.printable import counted
from aligndraw.text.sentences import absolute_specification

_WINDOW_ORDER = [0, 1, 3, 2, 4]  # its own inverse

# Released name -> ours. The decoder's W_z and W_s are the two column blocks of one weight_ih.
_NAMES = {
    "W_y_hLangEnc": "language.forward_lstm.words",
    "W_hLangEnc_hLangEnc": "language.forward_lstm.weight_hh",
    "b_hLangEnc": "language.forward_lstm.bias",
    "W_yRev_hLangEncRev": "language.backward_lstm.words",
    "W_hLangEncRev_hLangEncRev": "language.backward_lstm.weight_hh",
    "b_hLangEncRev": "language.backward_lstm.bias",
    "W_lang_align": "align.key.weight",
    "W_hdec_align": "align.query.weight",
    "b_align": "align.query.bias",
    "v_align": "align.score",
    "W_s_hdec": "decoder.weight_ih",
    "W_hdec_read_attent": "read.window.weight",
    "b_read_attent": "read.window.bias",
    "W_henc_henc": "encoder.weight_hh",
    "W_inp_henc": "encoder.weight_ih",
    "b_henc": "encoder.bias",
    "W_henc_mu": "posterior.mu.weight",
    "W_henc_logsigma": "posterior.log_variance.weight",
    "b_mu": "posterior.mu.bias",
    "b_logsigma": "posterior.log_variance.bias",
    "W_hdec_hdec": "decoder.weight_hh",
    "W_z_hdec": "decoder.weight_ih",
    "b_hdec": "decoder.bias",
    "W_hdec_write_attent": "write.window.weight",
    "b_write_attent": "write.window.bias",
    "W_hdec_c": "write.patch.weight",
    "b_c": "write.patch.bias",
    "W_hdec_mu_and_logsigma_prior": "prior.mu_log_sigma.weight",
    "b_mu_and_logsigma_prior": "prior.mu_log_sigma.bias",
    "h0_lang": "language.h0",
    "h0_enc": "encoder.h0",
    "h0_dec": "decoder.h0",
    "c0": "canvas",
}

# What no released parameter tells.
_THEIRS = {
    "KIND": AlignDRAWConfig.KIND,
    "align": True,
    "word_values": "states",
    "word_keys": "states",
    "attention_scale": 1.0,
    "attention_query": "state",
    "window_span": 0.0,
    "read_window": "own",
    "tints": 0,
    "opacity": False,
    "shape_units": 0,
}

# Parameters of our residual generator -> released name.
_SHARPENER_NAMES = {
    "sentence.0.weight": "skipthought2image",
    "sentence.0.bias": "skipthought2image-bias",
    "convolutions.0.weight": "W_conv0",
    "convolutions.0.bias": "b_conv0",
    "convolutions.2.weight": "W_conv1",
    "convolutions.2.bias": "b_conv1",
    "convolutions.4.weight": "W_conv2",
    "convolutions.4.bias": "b_conv2",
}


def from_released(
    arrays: Mapping[str, ArrayLike],
    conventions: str = "paper",
    steps: int = 32,
    image_size: tuple[int, int] | None = None,
) -> AlignDRAW:
    """Returns the model of the authors' parameters, with the sizes of the arrays.

    Args:
        arrays: the 33 released names -> arrays, in any floating dtype; the model takes over float64, else float32.
        conventions: "paper", or "released" for the window grid and language model of the authors' code.
        steps: T, which no array determines.
        image_size: (H, W); a square when None.

    Raises:
        ValueError: a name is missing or unknown, a shape does not fit the others, or the image size is ambiguous.
    """
    given = _named_arrays(arrays, _NAMES)
    config = _config(given, conventions, steps, image_size)
    dtype = torch.float64 if given["c0"].dtype == np.float64 else torch.float32
    latent = config.latent_units
    with torch.device("meta"):  # without memory: small files may claim any size
        shapes = _views(dict(AlignDRAW(config).named_parameters()), latent)
    for name, target in shapes.items():
        _check_shape(name, given[name], list(_to_theirs(name, target).shape))
    model = AlignDRAW(config).to(dtype)
    with torch.no_grad():
        for name, target in _views(dict(model.named_parameters()), latent).items():
            target.copy_(_to_ours(name, torch.from_numpy(given[name]), target))
    return model


def to_released(model: AlignDRAW, grads: bool = False) -> dict[str, NDArray[np.floating]]:
    """Returns the model's parameters, or their gradients, under the authors' names and in their layouts.

    Raises:
        ValueError: the model has parts that the authors' has not, or lacks some; with `grads`, a parameter has no
            gradient.
    """
    for name, value in _THEIRS.items():
        if (own := getattr(model.config, name)) != value:
            raise ValueError(f"the released parameters describe a model with {name.lower()} {value!r}, not {own!r}")
    ours: dict[str, Tensor] = {}
    for name, parameter in model.named_parameters():
        tensor = parameter.grad if grads else parameter
        if tensor is None:
            raise ValueError(f"{name} has no gradient: call loss.backward() first")
        ours[name] = tensor.detach()
    return {
        name: _to_theirs(name, tensor).cpu().numpy().copy()
        for name, tensor in _views(ours, model.config.latent_units).items()
    }


def _named_arrays(arrays: Mapping[str, ArrayLike], names: Collection[str]) -> dict[str, NDArray[Any]]:
    missing, unknown = sorted(set(names) - set(arrays)), sorted(set(arrays) - set(names))
    if missing or unknown:
        kinds = (("missing", missing), ("unknown", unknown))
        faults = [f"{kind} {', '.join(found)}" for kind, found in kinds if found]
        raise ValueError(f"these are not the {len(names)} released parameters: {'; '.join(faults)}")
    if hasattr(arrays, "filename"):  # of h5py: data sets of an open file
        return {name: h5_array(arrays, name) for name in names}
    return {name: np.asarray(array) for name, array in arrays.items()}


def _check_shape(name: str, array: NDArray[Any], wanted: list[int]) -> None:
    if list(array.shape) != wanted:
        raise ValueError(f"{name} must have shape {wanted} to fit the others, got {list(array.shape)}")


def _views(ours: Mapping[str, Tensor], latent: int) -> dict[str, Tensor]:
    """Returns for each released name our tensor, or the part of one, that holds its numbers."""
    views = {name: ours[own] for name, own in _NAMES.items()}
    views["W_z_hdec"], views["W_s_hdec"] = views["W_z_hdec"][:, :latent], views["W_s_hdec"][:, latent:]
    return views


def _transposed(name: str, tensor: Tensor) -> bool:
    return tensor.dim() == 2 and not name.startswith("W_y")


def _to_ours(name: str, array: Tensor, target: Tensor) -> Tensor:
    if name.endswith("attent"):
        array = array[..., _WINDOW_ORDER]
    return (array.T if _transposed(name, target) else array).reshape(target.shape)


def _to_theirs(name: str, tensor: Tensor) -> Tensor:
    if name in ("h0_lang", "h0_enc", "h0_dec", "c0"):
        return tensor.reshape(1, -1)
    array = tensor.T if _transposed(name, tensor) else tensor
    return array[..., _WINDOW_ORDER] if name.endswith("attent") else array


def _config(
    given: Mapping[str, NDArray[np.floating]],
    conventions: str,
    steps: int,
    image_size: tuple[int, int] | None,
) -> AlignDRAWConfig:
    for name, array in given.items():
        dims = 1 if name.startswith(("b_", "v_")) else 2
        if array.ndim != dims:
            raise ValueError(f"{name} must have {dims} dimension{'s'[: dims - 1]}, got {list(array.shape)}")
    decoder, patch = given["W_hdec_c"].shape
    glimpse = given["W_inp_henc"].shape[0] - decoder
    pixels = given["c0"].size
    fits = [
        channels
        for channels in (1, 3)
        if _root(patch, channels)
        and _root(glimpse, 2 * channels)
        and (pixels == channels * math.prod(image_size) if image_size else _root(pixels, channels))
    ]
    if len(fits) != 1:
        raise ValueError(
            f"c0 has {counted(pixels, 'pixel')} and W_hdec_c a patch of {patch}, which is no square picture of 1 "
            f"or 3 channels: "
            "give image_size=(height, width)"
        )
    channels = fits[0]
    side = _root(pixels, channels)
    return AlignDRAWConfig(
        image_size=image_size or (side, side),
        channels=channels,
        steps=steps,
        read_size=_root(glimpse, 2 * channels),
        write_size=_root(patch, channels),
        encoder_units=given["W_henc_henc"].shape[0],
        decoder_units=decoder,
        latent_units=given["W_z_hdec"].shape[0],
        language_units=given["W_hLangEnc_hLangEnc"].shape[0],
        align_units=given["v_align"].size,
        vocabulary_size=given["W_y_hLangEnc"].shape[0],
        conventions=conventions,
    )


def _root(count: int, channels: int) -> int:
    """Returns the side of `channels` equal squares that hold `count` numbers; 0 when there is none."""
    side = math.isqrt(max(count, 0) // channels)
    return side if side * side * channels == count else 0


def sharpener_from_released(
    arrays: Mapping[str, ArrayLike], image_size: tuple[int, int] | None = None, sentences: str | None = None
) -> Sharpener:
    """Returns the sharpener of the authors' `gan.hdf5`, with the sizes of the arrays.

        with h5py.File("gan.hdf5") as file:
            sharpener_from_released(file, sentences="combined-skip:DIR").save("sharpener")

    The filters are taken as they are: their code flips them, and so does Theano's convolution.

    Args:
        arrays: the 8 released names -> arrays, in any floating dtype; the sharpener takes over float64, else float32.
        image_size: (H, W); a square when None.
        sentences: the sentence encoder, as for `aligndraw.text.sentences.open_encoder`; kept in the notes.

    Raises:
        ValueError: a name is missing or unknown, a shape does not fit the others, or the image size is ambiguous.
    """
    given = _named_arrays(arrays, _SHARPENER_NAMES.values())
    filters, plane = given["W_conv0"], given["skipthought2image"]
    if filters.ndim != 4 or plane.ndim != 2:
        raise ValueError(
            "W_conv0 and skipthought2image must have 4 and 2 dimensions, "
            f"got {list(filters.shape)} and {list(plane.shape)}"
        )
    side = _root(plane.shape[1], 1)
    if image_size is None and not side:
        raise ValueError(
            f"skipthought2image makes {counted(plane.shape[1], 'pixel')}, which is no square: give "
            f"image_size=(height, width)"
        )
    config = SharpenerConfig(
        image_size=image_size or (side, side),
        channels=filters.shape[1] - 2,
        sentence_units=plane.shape[0],
        hidden_channels=filters.shape[0],
    )
    with torch.device("meta"):
        shapes = {name: list(p.shape) for name, p in Sharpener(config).generator.named_parameters()}
    for name, shape in shapes.items():
        theirs = _SHARPENER_NAMES[name]
        _check_shape(theirs, given[theirs], shape[:: -1 if theirs == "skipthought2image" else 1])
    sharpener = Sharpener(config).to(torch.float64 if filters.dtype == np.float64 else torch.float32)
    with torch.no_grad():
        for name, target in sharpener.generator.named_parameters():
            theirs = _SHARPENER_NAMES[name]
            target.copy_(torch.tensor(given[theirs].T if theirs == "skipthought2image" else given[theirs]))
    if sentences is not None:
        sharpener.notes = {"sentences": sentence_notes(absolute_specification(sentences))}
    return sharpener
