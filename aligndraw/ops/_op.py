"""Registers an op with PyTorch: one schema, shape function and gradient for the kernels of all backends."""

from __future__ import annotations

import functools
import importlib
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from aligndraw.backends import NAMESPACES, backend_for, cpp_or_reference
from aligndraw.ops import _autograd
from aligndraw.ops._fields import fields, flatten, shape

# The registrations live as long as these objects do.
_libraries = {name: torch.library.Library(name, "DEF") for name in dict.fromkeys(NAMESPACES.values())}

HALF = (torch.bfloat16, torch.float16)
_FLOATS = (torch.float32, torch.float64, *HALF)


class Op:
    """A differentiable op of the namespaces `aligndraw` (C++, CUDA) and `aligndraw_triton`.

    A call does not repeat the checks of the kernels: kernels and reference raise the same errors.

    Args:
        name: of the op; its gradient is the op `<name>_backward`.
        schema: arguments and results, in PyTorch's schema language.
        reference: the op in plain PyTorch, differentiable, for any device and dtype.
        check: raises RuntimeError for arguments outside the contract.
        fake: results of the right shape and dtype, without values.
        backward_schema, backward_reference, backward_fake: the same of the gradient op. Without them the gradient is
            that of the reference.
        setup_context, backward: as in `torch.autograd.Function`; `backward(op, ctx, *grads)` gets the gradient op.
        triton: the module of `aligndraw.kernels` with op and gradient as functions, imported at the first call.
        composite: op and gradient as calls of the other ops' kernels, for devices without kernels of this op. Their
            first argument is the namespace of the kernels.
        batched: whether the first dimension of every tensor is the batch.
    """

    def __init__(
        self,
        name: str,
        *,
        schema: str,
        reference: Callable[..., Any],
        check: Callable[..., None],
        fake: Callable[..., Any],
        backward_schema: str | None = None,
        backward_reference: Callable[..., Any] | None = None,
        backward_fake: Callable[..., Any] | None = None,
        setup_context: Callable[..., None] | None = None,
        backward: Callable[..., Any] | None = None,
        triton: str | None = None,
        composite: tuple[Callable[..., Any], Callable[..., Any] | None] | None = None,
        batched: bool = False,
    ) -> None:
        self.name, self.check = name, check
        self._first_name = _first_name(schema)
        self._overloads: dict[str, Any] = {}
        self._functions: dict[str, Any] = {}

        def checked_reference(*args: Any) -> Any:
            check(*args)
            return reference(*args)

        def checked_fake(*args: Any) -> Any:
            check(*args)
            return fake(*args)

        self.reference = functools.partial(_autograd.plain, checked_reference)
        for namespace, library in _libraries.items():
            self._overloads[namespace] = _define(library, name, schema, checked_fake)
            first = None
            if backward_schema and backward and backward_fake and backward_reference:
                gradient = _define(library, f"{name}_backward", backward_schema, backward_fake)
                _autograd.register(library, f"{name}_backward", backward_reference, batched=batched)
                first = functools.partial(_first, backward, gradient)
            self._functions[namespace] = _autograd.register(
                library, name, checked_reference, setup_context, first, batched
            )
        if composite is not None:
            self._add_composite(*composite)
            return
        # For devices without kernels: a kernel of a device takes precedence.
        main = _libraries["aligndraw"]
        main.impl(name, self.reference, "CompositeExplicitAutograd")
        if backward_reference is not None:
            main.impl(f"{name}_backward", _autograd.as_kernel(backward_reference), "CompositeExplicitAutograd")
        if triton is not None:

            def kernel(*args: Any) -> Any:
                check(*args)
                return getattr(_kernels(triton), name)(*args)

            def backward_kernel(*args: Any) -> Any:
                return getattr(_kernels(triton), f"{name}_backward")(*args)

            # Triton takes CPU tensors in its interpreter only.
            for key in ("CUDA", "CPU") if os.environ.get("TRITON_INTERPRET") == "1" else ("CUDA",):
                _libraries["aligndraw_triton"].impl(name, kernel, key)
                _libraries["aligndraw_triton"].impl(f"{name}_backward", backward_kernel, key)

    def _add_composite(self, forward: Callable[..., Any], backward: Callable[..., Any] | None) -> None:
        for namespace, library in _libraries.items():

            def checked(*args: Any, namespace: str = namespace) -> Any:
                self.check(*args)
                return _autograd.plain(functools.partial(forward, namespace), *args)

            for key in ("CPU", "CUDA"):
                if namespace == "aligndraw" and (key == "CPU" or _has_kernel(self.name, key)):
                    continue  # C++ has the kernel
                library.impl(self.name, checked, key)
                if backward is not None:
                    gradient = functools.partial(backward, namespace)
                    library.impl(f"{self.name}_backward", functools.partial(_autograd.plain, gradient), key)

    def __call__(self, *args: Any) -> Any:
        check_tensor(self.name, self._first_name, args[0])
        backend = backend_for(self.name, args[0].device.type)
        if backend == "reference":
            return self.reference(*args)
        namespace = NAMESPACES[backend]
        if torch.compiler.is_compiling() or _autograd.is_transformed():
            return self._overloads[namespace](*args)
        # No compiler and no transform sees this call: skipping the dispatcher's Python costs less.
        if _autograd.requires_grad(args):
            return self._functions[namespace].apply(*args)
        with torch._C._AutoDispatchBelowAutograd():
            return self._overloads[namespace](*args)


class PlainOp:
    """An op of the namespace `aligndraw` without derivatives, which it refuses. It may change arguments in place.

    A call does not repeat the checks of the kernel: kernel and reference raise the same errors.

    Args:
        name, schema, reference, check, fake: as of `Op`.
    """

    def __init__(
        self,
        name: str,
        *,
        schema: str,
        reference: Callable[..., Any],
        check: Callable[..., None],
        fake: Callable[..., Any],
    ) -> None:
        self.name = name
        self._first_name = _first_name(schema)

        def checked_reference(*args: Any) -> Any:
            check(*args)
            return reference(*args)

        def checked_fake(*args: Any) -> Any:
            check(*args)
            return fake(*args)

        library = _libraries["aligndraw"]
        self._overload = _define(library, name, schema, checked_fake)
        library.impl(name, checked_reference, "CompositeExplicitAutograd")
        _autograd.refuse(library, name)
        self.reference = checked_reference

    def backend(self, tensor: Tensor) -> str:
        """The backend of the op on the tensor's device: "cpp" or "reference"."""
        check_tensor(self.name, self._first_name, tensor)
        return cpp_or_reference(self.name, tensor.device.type)

    def __call__(self, *args: Any) -> Any:
        first = args[0][0] if isinstance(args[0], list) else args[0]
        return self._overload(*args) if self.backend(first) == "cpp" else self.reference(*args)


def define_kernel(name: str, schema: str) -> Any:
    """Returns the overload of a new op of the namespace `aligndraw` with C++ kernels alone, which no compiler sees."""
    _libraries["aligndraw"].define(name + schema)
    return getattr(torch.ops.aligndraw, name).default


def _first_name(schema: str) -> str:
    """Returns the name of the first argument, whose device chooses the backend."""
    return schema.partition(",")[0].split()[-1]


def _define(library: Any, name: str, schema: str, fake: Callable[..., Any]) -> Any:
    library.define(name + schema)
    torch.library.register_fake(f"{library.ns}::{name}", fake, lib=library)
    return getattr(getattr(torch.ops, library.ns), name).default


def _first(backward: Callable[..., Any], op: Any, ctx: Any, *grads: Tensor) -> Any:
    """Returns the gradient by the gradient op. It goes through the dispatcher where a second derivative may follow."""
    if torch.is_grad_enabled() or _autograd.is_transformed():
        return backward(op, ctx, *grads)
    with torch._C._AutoDispatchBelowAutograd():
        return backward(op, ctx, *grads)


def _has_kernel(name: str, key: str) -> bool:
    return bool(torch._C._dispatch_has_kernel_for_dispatch_key(f"aligndraw::{name}", key))


def _kernels(module: str) -> Any:
    return importlib.import_module(f"aligndraw.kernels.{module}")


def is_plain(tensors: Sequence[Tensor]) -> bool:
    """Whether no compiler, transform, mode or subclass is to see a call with these tensors, and all lie on the CPU."""
    return (
        not torch.compiler.is_compiling()
        and not _autograd.is_transformed()
        and not torch._C._len_torch_dispatch_stack()
        and all(type(t) in (Tensor, torch.nn.Parameter) and t.is_cpu for t in tensors)
    )


def compute_dtype(tensor: Tensor) -> torch.dtype:
    """The dtype of the arithmetic: float64 for float64, float32 for everything else."""
    return torch.float64 if tensor.dtype == torch.float64 else torch.float32


# ---- checks: "<op>: <argument> must <rule>, got <value>" ----


def check_tensor(op: str, name: str, value: Any) -> None:
    """Checks that an argument is a tensor."""
    if not isinstance(value, Tensor):
        raise RuntimeError(f"{op}: {name} must be a tensor, got {type(value).__name__}")


def check_shape(op: str, name: str, tensor: Tensor, letters: str, shape: Sequence[int | None]) -> None:
    """Checks a shape. `shape` has None for any size; `letters` is the documented shape: "[B, C, H, W]"."""
    check_tensor(op, name, tensor)
    good = tensor.dim() == len(shape) and all(w is None or s == w for s, w in zip(tensor.shape, shape))
    if not good:
        known = [str(w) if w is not None else x for w, x in zip(shape, letters.strip("[]").split(", "))]
        wanted = "[" + ", ".join(known) + "]"
        meaning = f"{letters} = {wanted}" if wanted != letters else letters
        raise RuntimeError(f"{op}: {name} must have shape {meaning}, got {list(tensor.shape)}")
    check_sizes(op, name, tensor.shape)


def check_shapes(op: str, named: tuple[Any, ...], sizes: Mapping[str, int]) -> None:
    """Checks the tensors of a NamedTuple against the shapes of their fields, with these sizes by letter."""
    for field, value in zip(fields(type(named)), flatten(named)):
        if isinstance(value, Tensor):
            check_shape(op, field.name, value, field.letters, shape(field.letters, sizes))


def check_sizes(op: str, name: str, sizes: Sequence[int]) -> None:
    """Checks that no product of sizes overflows a kernel's arithmetic. A 0 counts as 1, and so does a size that a
    compiler leaves open."""
    if torch.compiler.is_compiling():
        return
    product = 1
    for size in sizes:
        if not isinstance(size, int):  # symbolic
            continue
        product *= max(1, size)
        if size >= 2**31 or product > 2**40:
            rule = "must have sizes below 2**31 with a product of at most 2**40"
            raise RuntimeError(f"{op}: {name} {rule}, got {list(sizes)}")


def check_plain(op: str, name: str, tensor: Tensor) -> None:
    """Checks a tensor that an update rule changes in place."""
    if tensor.dtype != torch.float32 or not tensor.is_contiguous() or tensor.device.type != "cpu":
        raise RuntimeError(f"{op}: {name} must be contiguous float32 tensors on the CPU")


def check_float(op: str, **tensors: Tensor) -> None:
    """Checks that all are floating point, on one device, and either all float64 or none."""
    (first_name, first), *others = tensors.items()
    for name, tensor in tensors.items():
        if tensor.dtype not in _FLOATS:
            got = str(tensor.dtype).removeprefix("torch.")
            raise RuntimeError(f"{op}: {name} must be float32, float64, bfloat16 or float16, got {got}")
    for name, tensor in others:
        check_device(op, name, tensor, first_name, first)
        got = str(tensor.dtype).removeprefix("torch.")
        if first.dtype == torch.float64 and tensor.dtype != torch.float64:
            raise RuntimeError(f"{op}: {name} must be float64 like {first_name}, got {got}")
        if tensor.dtype == torch.float64 and first.dtype != torch.float64:
            got = str(first.dtype).removeprefix("torch.")
            raise RuntimeError(f"{op}: {first_name} must be float64 like {name}, got {got}")


def check_device(op: str, name: str, tensor: Tensor, first_name: str, first: Tensor) -> None:
    if tensor.device != first.device:
        raise RuntimeError(f"{op}: {name} must be on {first.device} like {first_name}, got {tensor.device}")


def check_devices(op: str, first_name: str, first: Sequence[Tensor], **lists: Sequence[Tensor]) -> None:
    """Checks that all tensors of the lists are on the device of the tensor at the same place of the first list."""
    for name, tensors in lists.items():
        for tensor, like in zip(tensors, first):
            check_device(op, name, tensor, first_name, like)


def check_loop(op: str, lengths: Tensor, first_name: str, first: Tensor, **tensors: Tensor | None) -> None:
    """Checks the types of a loop's arguments: int64 lengths; float32 or float64 in the first and all others."""
    if lengths.dtype != torch.int64:
        raise RuntimeError(f"{op}: lengths must be int64, got {str(lengths.dtype).removeprefix('torch.')}")
    check_device(op, "lengths", lengths, first_name, first)
    kind = str(first.dtype).removeprefix("torch.")
    if first.dtype not in (torch.float32, torch.float64):
        raise RuntimeError(f"{op}: {first_name} must be float32 or float64, got {kind}")
    for name, tensor in tensors.items():
        if tensor is None:
            continue
        check_device(op, name, tensor, first_name, first)
        if tensor.dtype != first.dtype:
            got = str(tensor.dtype).removeprefix("torch.")
            raise RuntimeError(f"{op}: {name} must be {kind} like {first_name}, got {got}")
