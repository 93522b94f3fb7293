"""Arrays that end where a page begins that nobody may touch."""

from __future__ import annotations

import ctypes
import mmap

import numpy as np
import torch

PAGE = mmap.PAGESIZE


class Guarded:
    """An array of `size` numbers, NaN at first, with nothing behind it."""

    def __init__(self, size, dtype):
        self.bytes = size * np.dtype(dtype).itemsize
        pages = -(-self.bytes // PAGE) + 1
        self.memory = mmap.mmap(-1, pages * PAGE)
        self.address = ctypes.addressof(ctypes.c_char.from_buffer(self.memory)) + (pages - 1) * PAGE
        libc = ctypes.CDLL(None, use_errno=True)
        assert libc.mprotect(ctypes.c_void_p(self.address), ctypes.c_size_t(PAGE), 0) == 0
        first = (pages - 1) * PAGE - self.bytes
        self.array = np.frombuffer(self.memory, dtype, size, first)
        self.array[:] = np.nan

    @property
    def pointer(self):
        return ctypes.c_void_p(self.address - self.bytes)


def strided(shape, strides, dtype, values):
    """Its memory, and itself, where only its own elements have values."""
    size = 1 + sum((n - 1) * s for n, s in zip(shape, strides)) if 0 not in shape else 0
    memory = Guarded(max(size, 1), dtype)
    item = np.dtype(dtype).itemsize
    view = np.lib.stride_tricks.as_strided(memory.array, shape, [s * item for s in strides])
    if values is not None:
        view[:] = values
    return memory, view


def at_the_end_of_a_page(tensor):
    """A copy of a tensor of numbers; everything else as it is."""
    if not isinstance(tensor, torch.Tensor) or not tensor.is_floating_point() or tensor.numel() == 0:
        return tensor
    memory = Guarded(tensor.numel(), str(tensor.dtype).removeprefix("torch."))
    copy = torch.from_numpy(memory.array).view(tensor.shape)
    return copy.copy_(tensor.detach()).requires_grad_(tensor.requires_grad)
