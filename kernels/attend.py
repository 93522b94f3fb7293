"""attend in Triton: attention over the words of a caption.

A program takes one caption, WORDS words and UNITS units at a time, in float32 (float64 for float64).
What it passes from one pass over the words to the next goes through memory that is its own.
"""

import torch
import triton
import triton.language as tl
from aligndraw.kernels.launch import launch
from aligndraw.kernels.scalar import exp, load, tanh
from torch import Tensor

BLOCKS = {"WORDS": 16, "UNITS": 64}


@triton.jit
def _length(lengths, caption, words):
    """Words of a caption, at least 1 and at most all."""
    return tl.minimum(tl.maximum(tl.load(lengths + caption), 1), words).to(tl.int32)


@triton.jit
def forward_kernel(
    query,
    keys,
    score,
    values,
    lengths,
    context,
    weights,
    words,
    units,
    width,
    WORDS: tl.constexpr,
    UNITS: tl.constexpr,
):
    """query [B, l], keys [B, N, l], score [l], values [B, N, d], lengths [B] -> context [B, d], weights [B, N]"""
    caption = tl.program_id(0).to(tl.int64)
    length = _length(lengths, caption, words)
    dtype: tl.constexpr = weights.dtype.element_ty
    weights += caption * words
    largest = tl.full((WORDS,), -float("inf"), dtype)
    for first in range(0, words, WORDS):
        word = first + tl.arange(0, WORDS)
        present = word < length
        energy = tl.zeros((WORDS,), dtype)
        for first_unit in range(0, units, UNITS):
            unit = first_unit + tl.arange(0, UNITS)
            inside = unit < units
            key_at = (caption * words + word[:, None]) * units + unit
            key = load(keys + key_at, present[:, None] & inside)
            q = load(query + caption * units + unit, inside)
            energy += tl.sum(tanh(key + q) * load(score + unit, inside), 1)
        energy = tl.where(present, energy, -float("inf"))
        largest = tl.maximum(largest, energy)
        tl.store(weights + word, energy, word < words)
    tl.debug_barrier()  # the energies that other threads stored are read now
    top = tl.max(largest)
    terms = tl.zeros((WORDS,), dtype)
    for first in range(0, words, WORDS):
        word = first + tl.arange(0, WORDS)
        terms += exp(tl.load(weights + word, word < words, -float("inf")) - top)
    total = tl.sum(terms)
    for first_unit in range(0, width, UNITS):
        unit = first_unit + tl.arange(0, UNITS)
        inside = unit < width
        sums = tl.zeros((UNITS,), dtype)
        for first in range(0, length, WORDS):
            word = first + tl.arange(0, WORDS)
            present = word < length
            weight = exp(tl.load(weights + word, present, -float("inf")) - top) / total
            value_at = (caption * words + word[:, None]) * width + unit
            sums += tl.sum(weight[:, None] * load(values + value_at, present[:, None] & inside), 0)
        tl.store(context + caption * width + unit, sums, inside)
    tl.debug_barrier()  # every thread has read the energies
    for first in range(0, words, WORDS):
        word = first + tl.arange(0, WORDS)
        weight = exp(tl.load(weights + word, word < words, -float("inf")) - top) / total
        tl.store(weights + word, weight, word < words)


@triton.jit
def backward_kernel(
    grad_context,
    grad_weights,
    query,
    keys,
    score,
    values,
    lengths,
    weights,
    grad_query,
    grad_keys,
    grad_scores,
    grad_values,
    grad_energies,
    words,
    units,
    width,
    WORDS: tl.constexpr,
    UNITS: tl.constexpr,
):
    """grad_context [B, d], grad_weights and weights [B, N] -> the gradients of query, keys and values, that of score
    by caption, grad_scores [B, l], and those of the energies, grad_energies [B, N]
    """
    caption = tl.program_id(0).to(tl.int64)
    length = _length(lengths, caption, words)
    dtype: tl.constexpr = grad_energies.dtype.element_ty
    grad_energies += caption * words
    mean_terms = tl.zeros((WORDS,), dtype)
    for first in range(0, words, WORDS):
        word = first + tl.arange(0, WORDS)
        present = word < length
        weight = load(weights + caption * words + word, present)
        d_weight = load(grad_weights + caption * words + word, present)
        for first_unit in range(0, width, UNITS):
            unit = first_unit + tl.arange(0, UNITS)
            inside = unit < width
            value_at = (caption * words + word[:, None]) * width + unit
            d_context = load(grad_context + caption * width + unit, inside)
            value = load(values + value_at, present[:, None] & inside)
            d_weight += tl.sum(value * d_context, 1)
            tl.store(grad_values + value_at, weight[:, None] * d_context, (word < words)[:, None] & inside)
        mean_terms += weight * d_weight
        tl.store(grad_energies + word, d_weight, present)
    tl.debug_barrier()  # what other threads stored is read now
    mean = tl.sum(mean_terms)
    for first_unit in range(0, units, UNITS):
        unit = first_unit + tl.arange(0, UNITS)
        inside = unit < units
        q, v = load(query + caption * units + unit, inside), load(score + unit, inside)
        d_query, d_score = tl.zeros((UNITS,), dtype), tl.zeros((UNITS,), dtype)
        for first in range(0, words, WORDS):
            word = first + tl.arange(0, WORDS)
            present = word < length
            weight = load(weights + caption * words + word, present)
            d_energy = weight * (tl.load(grad_energies + word, present, 0.0) - mean)
            key_at = (caption * words + word[:, None]) * units + unit
            tangent = tanh(load(keys + key_at, present[:, None] & inside) + q)
            d_key = d_energy[:, None] * v * (1.0 - tangent * tangent)
            d_query += tl.sum(d_key, 0)
            d_score += tl.sum(d_energy[:, None] * tangent, 0)
            tl.store(grad_keys + key_at, d_key, (word < words)[:, None] & inside)
        tl.store(grad_query + caption * units + unit, d_query, inside)
        tl.store(grad_scores + caption * units + unit, d_score, inside)


def attend(query: Tensor, keys: Tensor, score: Tensor, values: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
    """query [B, l], keys [B, N, l], score [l], values [B, N, d], lengths [B] -> context [B, d] in values' dtype,
    weights [B, N] in the dtype of the arithmetic."""
    inputs = [t.contiguous() for t in (query, keys, score, values, lengths)]
    batch, words, width = values.shape
    dtype = torch.float64 if query.dtype == torch.float64 else torch.float32
    context, weights = values.new_empty(batch, width), query.new_empty(batch, words, dtype=dtype)
    sizes = words, keys.shape[2], width
    launch(forward_kernel, (batch,), *inputs, context, weights, *sizes, **BLOCKS, like=weights)
    return context, weights


def attend_backward(
    grad_context: Tensor,
    grad_weights: Tensor,
    query: Tensor,
    keys: Tensor,
    score: Tensor,
    values: Tensor,
    lengths: Tensor,
    weights: Tensor,
) -> tuple[Tensor, ...]:
    """The gradients of query, keys, score and values, each in its argument's dtype."""
    grads = [t.contiguous() for t in (grad_context, grad_weights)]
    inputs = [t.contiguous() for t in (query, keys, score, values, lengths, weights)]
    grad_query, grad_keys, grad_values = (
        torch.empty_like(t, memory_format=torch.contiguous_format) for t in (query, keys, values)
    )
    grad_scores, grad_energies = weights.new_empty(query.shape), weights.new_empty(weights.shape)
    results = grad_query, grad_keys, grad_scores, grad_values, grad_energies
    sizes = keys.shape[1], keys.shape[2], values.shape[2]
    launch(backward_kernel, query.shape[:1], *grads, *inputs, *results, *sizes, **BLOCKS, like=weights)
    return grad_query, grad_keys, grad_scores.sum(0).to(score.dtype), grad_values
