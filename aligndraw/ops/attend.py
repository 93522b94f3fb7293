"""attend: soft attention over the words of a caption."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from aligndraw.ops._autograd import vjp
from aligndraw.ops._op import Op, check_device, check_float, check_shape, check_tensor, compute_dtype


def attend_reference(
    query: Tensor, keys: Tensor, score: Tensor, values: Tensor, lengths: Tensor
) -> tuple[Tensor, Tensor]:
    """`attend` in plain PyTorch: the specification."""
    dtype, words = compute_dtype(query), keys.shape[1]
    present = torch.arange(words, device=keys.device) < lengths.clamp(1, words)[:, None]
    # No arithmetic sees the padding: 0 · NaN would be NaN.
    keys, values = (t.masked_fill(~present[:, :, None], 0) for t in (keys, values))
    energy = torch.tanh(keys.to(dtype) + query.to(dtype)[:, None]) @ score.to(dtype)
    weights = energy.masked_fill(~present, -torch.inf).softmax(1)
    context = (weights[:, None] @ values.to(dtype))[:, 0]
    return context.to(values.dtype), weights


def _check(query: Tensor, keys: Tensor, score: Tensor, values: Tensor, lengths: Tensor) -> None:
    check_shape("attend", "keys", keys, "[B, N, l]", (None, None, None))
    batch, words, units = keys.shape
    if words < 1:
        raise RuntimeError(f"attend: keys must have at least one word, got {list(keys.shape)}")
    check_shape("attend", "query", query, "[B, l]", (batch, units))
    check_shape("attend", "score", score, "[l]", (units,))
    check_shape("attend", "values", values, "[B, N, d]", (batch, words, None))
    check_shape("attend", "lengths", lengths, "[B]", (batch,))
    check_float("attend", query=query, keys=keys, score=score, values=values)
    check_device("attend", "lengths", lengths, "query", query)
    if lengths.dtype != torch.int64:
        raise RuntimeError(f"attend: lengths must be int64, got {str(lengths.dtype).removeprefix('torch.')}")


def _fake(query: Tensor, keys: Tensor, score: Tensor, values: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
    batch, words, width = values.shape
    return values.new_empty(batch, width), query.new_empty(batch, words, dtype=compute_dtype(query))


def _backward_reference(
    grad_context: Tensor,
    grad_weights: Tensor,
    query: Tensor,
    keys: Tensor,
    score: Tensor,
    values: Tensor,
    lengths: Tensor,
    weights: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    g_query, g_keys, g_score, g_values = vjp(
        lambda q, k, v, h: attend_reference(q, k, v, h, lengths),
        (query, keys, score, values),
        (grad_context, grad_weights),
    )
    return g_query, g_keys, g_score, g_values


def _backward_fake(
    grad_context: Tensor,
    grad_weights: Tensor,
    query: Tensor,
    keys: Tensor,
    score: Tensor,
    values: Tensor,
    lengths: Tensor,
    weights: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    g_query, g_keys, g_score, g_values = (t.new_empty(t.shape) for t in (query, keys, score, values))
    return g_query, g_keys, g_score, g_values


def _setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    ctx.save_for_backward(*inputs, output[1])


def _backward(op: Any, ctx: Any, grad_context: Tensor, grad_weights: Tensor) -> tuple[Tensor | None, ...]:
    return (*op(grad_context, grad_weights, *ctx.saved_tensors), None)


_op = Op(
    "attend",
    schema="(Tensor query, Tensor keys, Tensor score, Tensor values, Tensor lengths) -> (Tensor, Tensor)",
    backward_schema="(Tensor grad_context, Tensor grad_weights, Tensor query, Tensor keys, Tensor score,"
    " Tensor values, Tensor lengths, Tensor weights) -> (Tensor, Tensor, Tensor, Tensor)",
    reference=attend_reference,
    backward_reference=_backward_reference,
    check=_check,
    fake=_fake,
    backward_fake=_backward_fake,
    setup_context=_setup,
    backward=_backward,
    triton="attend",
)


def attend(
    query: Tensor,
    keys: Tensor,
    score: Tensor,
    values: Tensor,
    lengths: Tensor | None = None,
    mask: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Attention over words: α = softmax_k(v · tanh(key_k + query)) over the words of a caption, s = Σ_k α_k value_k
    (alignDRAW, Eq. 2, 6, 7, with query = W h_dec + b and keys = U h_lang).

    The words are the first `lengths` ones, those of a mask, or all without either.

    Args:
        query: [B, l].
        keys: [B, N, l], N ≥ 1.
        score: v, [l].
        values: [B, N, d].
        lengths: int64 [B], words of each caption; taken as 1 below 1 and as N above N.
        mask: bool [B, N], true for the words of each caption, in any places; of none, the first counts. The result is
            that of a caption of these words alone, in their order.

    Returns:
        context s [B, d] in the dtype of `values`, and weights α [B, N] in float32 (float64 for float64), exactly 0
        at all other words. The arithmetic is float32, or float64 when all arguments are float64.

    Raises:
        RuntimeError: shapes, dtypes or devices do not fit; or there are both lengths and a mask.
    """
    given = {"query": query, "keys": keys, "score": score, "values": values, "lengths": lengths, "mask": mask}
    for name, value in given.items():
        if value is not None or name not in ("lengths", "mask"):
            check_tensor("attend", name, value)
    if lengths is not None and mask is None:
        return _op(query, keys, score, values, lengths)  # type: ignore[no-any-return]
    if lengths is not None:
        raise RuntimeError("attend: lengths must be left out beside a mask")
    check_shape("attend", "keys", keys, "[B, N, l]", (None, None, None))
    batch, words, _ = keys.shape
    if mask is None:
        full = torch.full((batch,), words, dtype=torch.int64, device=keys.device)
        return _op(query, keys, score, values, full)  # type: ignore[no-any-return]
    check_shape("attend", "mask", mask, "[B, N]", (batch, words))
    check_shape("attend", "values", values, "[B, N, d]", (batch, words, None))
    check_device("attend", "mask", mask, "query", query)
    if mask.dtype != torch.bool:
        raise RuntimeError(f"attend: mask must be bool, got {str(mask.dtype).removeprefix('torch.')}")
    # The words of the mask come first, in their order, and the weights go back to their places.
    order = torch.argsort(mask.logical_not().to(torch.uint8), dim=1, stable=True)
    keys, values = (t.gather(1, order[:, :, None].expand(t.shape)) for t in (keys, values))
    context, weights = _op(query, keys, score, values, mask.sum(1))
    return context, weights.gather(1, torch.argsort(order, dim=1))
