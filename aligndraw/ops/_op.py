"""How an op joins PyTorch: one schema, shape function and gradient, shared by every backend's kernels."""

from __future__ import annotations

import functools
import importlib
import os
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from aligndraw.backends import NAMESPACES, backend_for

# The registrations live as long as these objects do.
_libraries = {name: torch.library.Library(name, "DEF") for name in dict.fromkeys(NAMESPACES.values())}
HALF = (torch.bfloat16, torch.float16)
_FLOATS = (torch.float32, torch.float64, *HALF)


class Op:
    """A differentiable op of the namespaces `aligndraw` (C++, CUDA) and `aligndraw_triton`.

    Calling it checks nothing that the kernels check themselves: kernels and reference raise the same errors.

    Args:
        name: of the op; its gradient is the op `<name>_backward`.
        schema: arguments and results, in PyTorch's schema language.
        reference: the op in plain PyTorch, differentiable, for any device and dtype.
        check: raises RuntimeError for arguments outside the contract.
        fake: results of the right shape and dtype, without values.
        backward_schema, backward_reference, backward_fake: the same of the gradient op; without them there is none.
        setup_context, backward: as in `torch.autograd.Function`; `backward(op, ctx, *grads)` gets the gradient op.
        triton: the module of `aligndraw.kernels` that has the two as functions, imported at the first call.
        composite: in place of `backward_reference`, and of kernels where C++ has none, the op and its gradient made of
            the other ops: functions of a namespace, whose kernels they call, and of the arguments.
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
    ) -> None:
        self.name, self.reference, self.check = name, reference, check
        self._overloads, self._functions = {}, {}
        for namespace, library in _libraries.items():
            library.define(name + schema)

            def checked_fake(*args: Any) -> Any:
                check(*args)
                return fake(*args)

            torch.library.register_fake(f"{namespace}::{name}", checked_fake, lib=library)
            operators = getattr(torch.ops, namespace)
            self._overloads[namespace] = getattr(operators, name).default
            if backward_schema is None or backward is None or backward_fake is None:
                continue
            library.define(f"{name}_backward{backward_schema}")
            torch.library.register_fake(f"{namespace}::{name}_backward", backward_fake, lib=library)
            backward_overload = getattr(operators, f"{name}_backward").default

            def once(ctx: Any, *grads: Tensor, op: Any = backward_overload, backward: Any = backward) -> Any:
                if torch.is_grad_enabled():
                    raise RuntimeError(
                        f"{name}: second derivatives exist on the reference only: "
                        'call it inside `with aligndraw.use_backend("reference"):`'
                    )
                with torch._C._AutoDispatchBelowAutograd():
                    return backward(op, ctx, *grads)

            torch.library.register_autograd(
                f"{namespace}::{name}", once, setup_context=setup_context, lib=library
            )
            self._functions[namespace] = _function(name, self._overloads[namespace], setup_context, once)
        if composite is not None:
            self._add_composite(*composite)
            return
        # Devices without kernels of their own; a kernel registered for a device comes before these.
        main = _libraries["aligndraw"]
        main.impl(name, reference, "CompositeExplicitAutograd")
        if backward_reference is not None:
            main.impl(f"{name}_backward", backward_reference, "CompositeExplicitAutograd")
        if triton is not None:

            def kernel(*args: Any) -> Any:
                check(*args)
                return getattr(_kernels(triton), name)(*args)

            def backward_kernel(*args: Any) -> Any:
                return getattr(_kernels(triton), f"{name}_backward")(*args)

            # Triton serves CPU tensors in its interpreter only.
            for key in ("CUDA", "CPU") if os.environ.get("TRITON_INTERPRET") == "1" else ("CUDA",):
                _libraries["aligndraw_triton"].impl(name, kernel, key)
                _libraries["aligndraw_triton"].impl(f"{name}_backward", backward_kernel, key)

    def _add_composite(self, forward: Callable[..., Any], backward: Callable[..., Any] | None) -> None:
        for namespace, library in _libraries.items():

            def checked(*args: Any, namespace: str = namespace) -> Any:
                self.check(*args)
                return _as_given(forward, namespace, *args)

            for key in ("CPU", "CUDA"):
                if namespace == "aligndraw" and (key == "CPU" or _has_kernel(self.name, key)):
                    continue  # it is C++'s there
                library.impl(self.name, checked, key)
                if backward is not None:
                    library.impl(f"{self.name}_backward", functools.partial(_as_given, backward, namespace), key)

    def __call__(self, *args: Any) -> Any:
        backend = backend_for(self.name, args[0].device.type)
        if backend == "reference":
            self.check(*args)
            return self.reference(*args)
        namespace = NAMESPACES[backend]
        if torch.compiler.is_compiling():
            return self._overloads[namespace](*args)
        # Outside a compiler, an autograd.Function costs half of what the op's registered gradient does.
        function = self._functions.get(namespace)
        if function and torch.is_grad_enabled() and any(isinstance(a, Tensor) and a.requires_grad for a in args):
            return function.apply(*args)
        with torch._C._AutoDispatchBelowAutograd():
            return self._overloads[namespace](*args)


def _as_given(composite: Callable[..., Any], namespace: str, *args: Any) -> Any:
    """A composite, with no autocast for what it is made of: the op's own arguments say what is rounded."""
    with torch.autocast(args[0].device.type, enabled=False):
        return composite(namespace, *args)


def _has_kernel(name: str, key: str) -> bool:
    return bool(torch._C._dispatch_has_kernel_for_dispatch_key(f"aligndraw::{name}", key))


def _kernels(module: str) -> Any:
    return importlib.import_module(f"aligndraw.kernels.{module}")


def _function(name: str, overload: Any, setup: Any, backward: Callable[..., Any]) -> Any:
    def forward(*args: Any) -> Any:
        with torch._C._AutoDispatchBelowAutograd():
            return overload(*args)

    def apply(cls: Any, *args: Any) -> Any:
        if torch._C._are_functorch_transforms_active():
            return super(cls, cls).apply(*args)
        # Past Function.apply, which looks up the signature of `forward` at every call: more than half of a call's time.
        return super(torch.autograd.Function, cls).apply(*args)

    members = {"forward": forward, "setup_context": setup, "backward": backward}
    statics = {k: staticmethod(v) for k, v in members.items()}
    return type(name, (torch.autograd.Function,), {**statics, "apply": classmethod(apply)})


def vjp(
    function: Callable[..., Any], inputs: Sequence[Tensor], grads: Sequence[Tensor]
) -> tuple[Tensor, ...]:
    """The gradients of `function(*inputs)` with respect to every input, given those of its results."""
    with torch.enable_grad():
        leaves = [t.detach().requires_grad_() for t in inputs]
        outputs = function(*leaves)
        outputs = outputs if isinstance(outputs, tuple) else (outputs,)
        return torch.autograd.grad(outputs, leaves, grads, allow_unused=True, materialize_grads=True)


def compute_dtype(tensor: Tensor) -> torch.dtype:
    """The dtype of the arithmetic: float64 for float64, float32 for everything else."""
    return torch.float64 if tensor.dtype == torch.float64 else torch.float32


# ---- checks: "<op>: <argument> must <rule>, got <what came>" ----


def check_shape(op: str, name: str, tensor: Tensor, letters: str, shape: Sequence[int | None]) -> None:
    """`shape` has None where any size will do; `letters` is the shape as documented: "[B, C, H, W]"."""
    good = tensor.dim() == len(shape) and all(w is None or s == w for s, w in zip(tensor.shape, shape))
    if not good:
        known = [str(w) if w is not None else x for w, x in zip(shape, letters.strip("[]").split(", "))]
        wanted = "[" + ", ".join(known) + "]"
        meaning = f"{letters} = {wanted}" if wanted != letters else letters
        raise RuntimeError(f"{op}: {name} must have shape {meaning}, got {list(tensor.shape)}")
    check_sizes(op, name, tensor.shape)


def check_sizes(op: str, name: str, sizes: Sequence[int]) -> None:
    """No product of sizes overflows a kernel's arithmetic. A 0 counts as 1, and so does a size that a compiler leaves
    open."""
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


def check_float(op: str, **tensors: Tensor) -> None:
    """Floating point, all on one device; float64 all together or not at all."""
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


def check_loop(op: str, lengths: Tensor, first_name: str, first: Tensor, **tensors: Tensor | None) -> None:
    """The arguments of a loop: lengths int64; the first float32 or float64, and the others like it, where given."""
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
