"""A trained sharpener without noise, folded for speed.

The second convolution, hidden_channels x hidden_channels x 7 x 7 per pixel, is nearly all of the work. On a CPU in
float32 it is computed as a product of Fourier transforms, with fewer multiplications and less rounding. Elsewhere, and
in half precision, the convolutions run channels-last, the layout that matrix units read fastest.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.nn import functional

from aligndraw.lapgan.sharpen import Sharpener, check_inputs

_FFT_SIZES = 16, 24, 32, 40  # sides of tiles whose Fourier transforms are fast
_BATCH_SIZE = 10  # images whose activations stay in the cache from one convolution to the next


class FastSharpener:
    """A `Sharpener` with ε = 0, without gradients: `FastSharpener(sharpener)(images, sentences)`.

    The noise channel is left out: it is zero. In float32 the results are as exact as those of the `Sharpener`. In
    bfloat16 only the convolutions are rounded, not the sentence channel and not the sum with the image.

    Args:
        sharpener: copied, on its device.
        dtype: of the convolutions.
    """

    def __init__(self, sharpener: Sharpener, dtype: torch.dtype = torch.float32) -> None:
        self.config, self.dtype = sharpener.config, dtype
        generator = copy.deepcopy(sharpener.generator).requires_grad_(False)
        self._sentence, self._layers = generator.sentence, generator.convolutions
        first, second = self._layers[0], self._layers[2]
        assert isinstance(first, nn.Conv2d) and isinstance(second, nn.Conv2d)
        first.weight = nn.Parameter(first.weight[:, 1:].clone(), requires_grad=False)
        if dtype == torch.float32 and second.weight.device.type == "cpu":
            self._layers[2] = _SpectralConvolution(second, max(self.config.image_size))
        else:
            self._layers.to(dtype, memory_format=torch.channels_last)  # type: ignore[call-overload]

    @torch.no_grad()
    def __call__(self, images: Tensor, sentences: Tensor) -> Tensor:
        """Returns sharp images; arguments and errors are those of `Sharpener`, without noise."""
        check_inputs(self.config, images, sentences)
        inputs = torch.cat([self._sentence(sentences), images], 1).to(self.dtype)
        sharp = torch.empty_like(images)
        for i in range(0, len(images), _BATCH_SIZE):
            some = slice(i, i + _BATCH_SIZE)
            torch.add(images[some], self._layers(inputs[some]), out=sharp[some])
        return sharp.clamp_(0, 1)


class _SpectralConvolution(nn.Module):
    """A same-size convolution by Fourier transforms of overlapping tiles (overlap-save).

    A tile of N x N pixels gives (N − k + 1)² pixels of the result: those whose k x k neighbourhood lies in the tile.
    """

    def __init__(self, layer: nn.Conv2d, longest: int) -> None:
        super().__init__()
        kernel = layer.kernel_size[0]
        self.margin = kernel // 2
        self.side = next((n for n in _FFT_SIZES if n >= longest + kernel - 1), _FFT_SIZES[-1])
        self.step = self.side - kernel + 1
        self.layer = layer
        # A network's convolution is a correlation, hence the conjugate. [N (N/2 + 1), in, out]
        spectrum = torch.fft.rfft2(layer.weight, s=(self.side, self.side)).conj()
        self.spectrum = spectrum.permute(2, 3, 1, 0).flatten(0, 1).contiguous()

    def forward(self, inputs: Tensor) -> Tensor:
        """[B, hidden_channels, H, W] -> [B, hidden_channels, H, W]."""
        batch, channels, height, width = inputs.shape
        side, step = self.side, self.step
        down, across = -(-height // step), -(-width // step)
        if batch * down * across == 1:  # one tile saves less than reading the spectra of the weights costs
            direct: Tensor = self.layer(inputs)
            return direct
        near, far = self.margin, (side - step) - self.margin
        padded = functional.pad(inputs, (near, across * step - width + far, near, down * step - height + far))
        tiles = padded.unfold(2, side, step).unfold(3, side, step)  # [B, hidden_channels, down, across, N, N]
        tiles = tiles.permute(0, 2, 3, 1, 4, 5).flatten(0, 2)
        spectra = torch.fft.rfft2(tiles).permute(2, 3, 0, 1).flatten(0, 1) @ self.spectrum
        spectra = spectra.unflatten(0, (side, side // 2 + 1)).permute(2, 3, 0, 1)
        tiles = torch.fft.irfft2(spectra, s=(side, side))[..., :step, :step]
        tiles = tiles.unflatten(0, (batch, down, across)).permute(0, 3, 1, 4, 2, 5)
        result: Tensor = tiles.reshape(batch, -1, down * step, across * step)[..., :height, :width]
        assert self.layer.bias is not None
        return result + self.layer.bias[:, None, None]
