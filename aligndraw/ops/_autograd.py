"""The derivatives of an op in all of PyTorch's modes.

The dispatcher requests each of them at each level of a transform of torch.func, so that they compose:

    first, in reverse       the gradient op on the same backend; that of the reference where there is none
    forward mode            the reference runs on the dual numbers
    second, third, ...      the gradient op has no gradient op: the gradient of its reference
    vmap                    all examples are one batch; where they share an argument, one call per example
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch._functorch.eager_transforms import enable_inplace_requires_grad
from torch._functorch.utils import enable_single_level_autograd_function
from torch.autograd import forward_ad


def is_transformed() -> bool:
    """Whether a transform of torch.func or forward mode is at work, and so has to see the op itself."""
    return torch._C._are_functorch_transforms_active() or forward_ad._current_level >= 0


def register(
    library: Any,
    name: str,
    reference: Callable[..., Any],
    setup_context: Callable[..., None] | None = None,
    backward: Callable[..., Any] | None = None,
    batched: bool = False,
) -> type[torch.autograd.Function]:
    """Gives an op its derivatives.

    Args:
        library: of the op's namespace.
        name: of the op, defined there.
        reference: the op in plain PyTorch. It may leave out the op's last results where these have no gradient.
        setup_context, backward: as in `torch.autograd.Function`; without them the gradient is that of the reference.
        batched: whether the first dimension of every tensor, arguments and results, is the batch.

    Returns:
        The op as a function that records its gradient.
    """
    overload = getattr(getattr(torch.ops, library.ns), name).default
    reference = functools.partial(plain, reference)
    function = _function(name, overload, setup_context or _save_all, backward or _backward_of(reference))
    count = len(overload._schema.returns)

    def autograd(*args: Any) -> Any:
        if _has_tangent(args):
            return _padded(reference(*args), count)
        if requires_grad(args):
            with enable_single_level_autograd_function():
                return function.apply(*args)
        with torch._C._AutoDispatchBelowAutograd():
            return overload(*args)

    library.impl(name, autograd, "Autograd")
    vmap = _vmap_together if batched else _vmap_one_by_one
    torch.library.register_vmap(f"{library.ns}::{name}", lambda *args: vmap(overload, *args), lib=library)
    return function


def refuse(library: Any, name: str) -> None:
    """Makes an op raise where a derivative is requested, and count its in-place changes as PyTorch does."""
    overload = getattr(getattr(torch.ops, library.ns), name).default
    changed = [i for i, a in enumerate(overload._schema.arguments) if a.alias_info and a.alias_info.is_write]

    def autograd(*args: Any) -> Any:
        tensors = list(_tensors(args))
        if requires_grad(tensors) or _has_tangent(tensors):
            raise RuntimeError(
                f"{name}: it has no derivatives: call it inside `with torch.no_grad():`, and with no dual numbers"
            )
        with torch._C._AutoDispatchBelowAutograd():
            found = overload(*args)
        torch.autograd.graph.increment_version(list(_tensors(args[i] for i in changed)))
        return found

    library.impl(name, autograd, "Autograd")


def vjp(function: Callable[..., Any], inputs: Sequence[Tensor], grads: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """The gradients of `function(*inputs)` with respect to every input, given those of its results.

    They have gradients and tangents of their own. Unlike `torch.func.vjp` it adds no level of a transform: the
    dispatcher, which is at one when it asks for the reference of a gradient, forbids that.
    """
    differentiable = requires_grad((*inputs, *grads))
    with torch.enable_grad(), enable_inplace_requires_grad(True):
        values = [t.view_as(t) for t in inputs]  # of two inputs one may depend on the other
        values = [v if v.requires_grad else v.requires_grad_() for v in values]
        results = function(*values)
        results = results if isinstance(results, tuple) else (results,)
        used = [(r, g) for r, g in zip(results, grads) if r.numel()]  # an empty result may depend on nothing
        found: tuple[Tensor, ...] = torch.autograd.grad(
            [r for r, _ in used], values, [g for _, g in used], create_graph=differentiable, materialize_grads=True
        )
        return found


def of_these(function: Callable[..., Any], args: Sequence[Any], at: Sequence[int]) -> Callable[..., Any]:
    """Returns `function` as a function of the arguments at the positions `at`; the others keep their values."""

    def called(*values: Tensor) -> Any:
        filled = list(args)
        for i, value in zip(at, values):
            filled[i] = value
        return function(*filled)

    return called


def as_kernel(gradient: Callable[..., Any]) -> Callable[..., Any]:
    """Returns the reference of a gradient as a kernel, which the dispatcher calls below autograd."""

    def kernel(*args: Any) -> Any:
        with torch.no_grad(), torch._C._SetExcludeDispatchKeyGuard(torch._C.DispatchKey.AutogradFunctionality, False):
            return plain(gradient, *args)

    return kernel


def autocasts(device: str) -> bool:
    """Whether autocast is enabled for a device type; some, meta among them, have none and refuse the question."""
    return bool(torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device))


def plain(function: Callable[..., Any], *args: Any) -> Any:
    """Returns `function(*args)` without autocast: only the arguments of an op decide its rounding."""
    device = args[0].device.type
    if not autocasts(device):
        return function(*args)
    with torch.autocast(device, enabled=False):
        return function(*args)


def requires_grad(args: Iterable[Any]) -> bool:
    """Whether PyTorch records the gradient of one of the arguments."""
    return torch.is_grad_enabled() and any(isinstance(a, Tensor) and a.requires_grad for a in args)


def _has_tangent(args: Iterable[Any]) -> bool:
    """Whether an argument is a dual number. Its level is always 0: torch.func nests its dual numbers in another way."""
    return is_transformed() and any(
        isinstance(a, Tensor) and a.is_floating_point() and forward_ad.unpack_dual(a, level=0).tangent is not None
        for a in args
    )


def _tensors(args: Iterable[Any]) -> Iterable[Tensor]:
    for arg in args:
        yield from (a for a in (arg if isinstance(arg, (list, tuple)) else (arg,)) if isinstance(a, Tensor))


def _function(name: str, overload: Any, setup: Any, backward: Any) -> type[torch.autograd.Function]:
    def forward(*args: Any) -> Any:
        if not torch._C._are_functorch_transforms_active():
            with torch._C._AutoDispatchBelowAutograd():
                return overload(*args)
        # autograd.Function turns both modes off, but the levels below may take derivatives, too.
        with torch.enable_grad(), forward_ad._set_fwd_grad_enabled(True), torch._C._AutoDispatchBelowAutograd():
            return overload(*args)

    def apply(cls: Any, *args: Any) -> Any:
        # Skips Function.apply: it looks up the signature of `forward` in every call, more than half of a call's time.
        return super(torch.autograd.Function, cls).apply(*args)

    members = {"forward": forward, "setup_context": setup, "backward": backward}
    statics = {k: staticmethod(v) for k, v in members.items()}
    return type(name, (torch.autograd.Function,), {**statics, "apply": classmethod(apply)})


def _save_all(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    ctx.numbers = [None if isinstance(a, Tensor) else a for a in inputs]
    ctx.save_for_backward(*(a if isinstance(a, Tensor) else None for a in inputs))


def _backward_of(reference: Callable[..., Any]) -> Callable[..., Any]:
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        args = [number if t is None else t for number, t in zip(ctx.numbers, ctx.saved_tensors)]
        at = [i for i, needed in enumerate(ctx.needs_input_grad) if needed]
        results, pull, *_ = torch.func.vjp(of_these(reference, args, at), *(args[i] for i in at))
        found = dict(zip(at, pull(grads if isinstance(results, tuple) else grads[0])))
        return tuple(found.get(i) for i in range(len(args)))

    return backward


def _padded(results: Any, count: int) -> Any:
    if not isinstance(results, tuple):
        return results
    return (*results, *(results[0].new_empty(0) for _ in range(count - len(results))))


def _vmap_together(overload: Any, info: Any, in_dims: tuple[int | None, ...], *args: Any) -> Any:
    """The rows of all examples as one batch."""

    def stacked(arg: Any, dim: int | None) -> Any:
        if not isinstance(arg, Tensor):
            return arg
        return arg.expand(info.batch_size, *arg.shape) if dim is None else arg.movedim(dim, 0)

    every = list(map(stacked, args, in_dims))
    count, rows = every[0].shape[:2]
    results = overload(*(a.flatten(0, 1) if isinstance(a, Tensor) else a for a in every))

    def parted(result: Tensor) -> Any:  # a gradient that was not asked for is an empty tensor
        return result.unflatten(0, (count, rows if len(result) == count * rows else 0))

    return (parted(results), 0) if isinstance(results, Tensor) else (tuple(map(parted, results)), (0,) * len(results))


def _vmap_one_by_one(overload: Any, info: Any, in_dims: tuple[int | None, ...], *args: Any) -> Any:
    def example(i: int) -> Any:
        return overload(*(a if dim is None else a.select(dim, i) for a, dim in zip(args, in_dims)))

    if info.batch_size:
        results = list(map(example, range(info.batch_size)))
    else:  # a call on the meta device has the shapes
        shapes = (a if dim is None else a.sum(dim, dtype=a.dtype) for a, dim in zip(args, in_dims))
        results = [overload(*(a.to("meta") if isinstance(a, Tensor) else a for a in shapes))]

    def stacked(*rows: Tensor) -> Tensor:
        if info.batch_size:
            return torch.stack(rows)
        device = next(a.device for a in args if isinstance(a, Tensor))
        return torch.empty(0, *rows[0].shape, dtype=rows[0].dtype, device=device)

    if isinstance(results[0], Tensor):
        return stacked(*results), 0
    return tuple(map(stacked, *results)), (0,) * len(results[0])
