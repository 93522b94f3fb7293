"""Every op, on every backend, on a CUDA GPU; and the model there."""

import loop_cases
import pytest
import torch

import aligndraw
from aligndraw import ops
from aligndraw.backends import missing_reason
from aligndraw.model.graphs import GraphedSampler

if not torch.cuda.is_available():
    pytest.skip("torch sees no CUDA device", allow_module_level=True)

BACKENDS = ("reference", "cuda", "triton")
DTYPES = {"fp32": torch.float32, "fp64": torch.float64, "bf16": torch.bfloat16, "fp16": torch.float16}


@pytest.fixture(params=BACKENDS)
def backend(request, op):
    """A backend that serves the op on a GPU, forced."""
    reason = missing_reason(op, request.param, "cuda")
    if reason:
        pytest.skip(reason)
    with aligndraw.use_backend(request.param):
        yield request.param


def moved(args, device):
    """Copies on a device; what is floating point asks for gradients."""

    def move(a):
        if not isinstance(a, torch.Tensor):
            return a
        a = a.detach().to(device, copy=True)
        return a.requires_grad_() if a.is_floating_point() else a

    return tuple(move(a) for a in args)


def evaluate(function, args):
    """Results, and the gradients of every argument for results weighed by numbers that depend on their shape alone."""
    leaves = [a for a in args if isinstance(a, torch.Tensor) and a.requires_grad]
    outputs = function(*args)
    outputs = outputs if isinstance(outputs, tuple) else (outputs,)
    grads = [torch.arange(1, o.numel() + 1).cos().reshape(o.shape).to(o) for o in outputs]
    return [t.detach() for t in (*outputs, *torch.autograd.grad(outputs, leaves, grads))]


def test_the_same_bits_every_time(op, backend, make):
    if backend == "reference":
        pytest.skip("PyTorch's own kernels are not under test")
    args = moved(make(op, dtype=torch.float32), "cuda")
    first = evaluate(getattr(ops, op), args)
    for _ in range(100):
        for a, b in zip(first, evaluate(getattr(ops, op), args), strict=True):
            assert torch.equal(a, b)


def test_opcheck(op, make):
    torch.library.opcheck(getattr(torch.ops.aligndraw, op).default, moved(make(op, dtype=torch.float32), "cuda"))


def test_on_a_stream_and_from_a_graph(op, backend, make):
    """Kernels run on the stream that is current, and can be captured."""
    function = getattr(ops, op)
    args = tuple(a.cuda() if isinstance(a, torch.Tensor) else a for a in make(op, dtype=torch.float32))
    expected = function(*args)
    stream, graph = torch.cuda.Stream(), torch.cuda.CUDAGraph()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        function(*args)
    with torch.cuda.graph(graph, stream=stream):
        found = function(*args)
    graph.replay()
    torch.cuda.synchronize()
    torch.testing.assert_close(found, expected, rtol=0, atol=0)


def test_the_model_draws_and_learns_as_on_the_cpu():
    torch.manual_seed(0)
    config = aligndraw.AlignDRAWConfig.preset("quick").replace(steps=3)
    model = aligndraw.AlignDRAW(config).double()
    images = torch.rand(2, 1, *config.image_size, dtype=torch.float64)
    captions, noise = torch.randint(22, (2, 5)), torch.randn(2, 3, config.latent_units, dtype=torch.float64)

    def evaluated(device):
        on = model.to(device)
        bound = on(images.to(device), captions.to(device), noise=noise.to(device))
        grads = torch.autograd.grad(bound.loss, list(on.parameters()))
        drawn = on.sample(captions.to(device), noise=noise.to(device)).images
        return [t.detach().cpu() for t in (bound.kl, bound.nll, drawn, *grads)]

    with aligndraw.use_backend("reference"):
        expected = evaluated("cpu")
    for a, b in zip(evaluated("cuda"), expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-12)


def served_by(form):
    """The backend of a form of the loops."""
    return "triton" if form == "triton" else "cuda"


def with_form(monkeypatch, form):
    """Asks for a form of the loops on a GPU."""
    if reason := missing_reason("unroll", served_by(form), "cuda"):
        pytest.skip(reason)
    if form == "cluster" and torch.cuda.get_device_capability()[0] < 9:
        pytest.skip("clusters begin with compute capability 9.0")
    if form != "triton":
        monkeypatch.setenv("ALIGNDRAW_LOOP", form)


def loop_arguments(args, device):
    return [type(a)(*moved(a, device)) if isinstance(a, tuple) else moved((a,), device)[0] for a in args]


def loop_results(args, device):
    """Results and gradients of `unroll`, then results of `unroll_prior`."""
    moved_args = loop_arguments(args, device)
    results = [r for r in ops.unroll(*moved_args) if r is not None]
    grads = [torch.arange(1, r.numel() + 1).cos().reshape(r.shape).to(r) for r in results]
    found = [*results, *torch.autograd.grad(results, loop_cases.leaves(moved_args), grads)]
    with torch.no_grad():
        found += [r for r in ops.unroll_prior(*loop_cases.prior_args(moved_args)) if r is not None]
    return [t.detach().cpu() for t in found]


@pytest.mark.parametrize("align", [True, False])
@pytest.mark.parametrize("shape", [*loop_cases.SHAPES, *loop_cases.LARGE])
@pytest.mark.parametrize("form", ["launches", "triton", "persistent", "cluster"])
def test_the_loops_equal_the_steps(monkeypatch, shape, align, form):
    with_form(monkeypatch, form)
    args = loop_cases.make(shape, align)
    with aligndraw.use_backend("reference"):
        truth = loop_results(args, "cpu")
    with aligndraw.use_backend(served_by(form)):
        for ours, theirs in zip(loop_results(args, "cuda"), truth, strict=True):
            assert ours.shape == theirs.shape and loop_cases.error(ours, theirs) < 1e-11


@pytest.mark.parametrize("form", ["launches", "triton", "persistent", "cluster"])
def test_a_loop_gives_the_same_bits_every_time(monkeypatch, form):
    with_form(monkeypatch, form)
    args = loop_cases.make("wide", dtype=torch.float32)
    with aligndraw.use_backend(served_by(form)):
        first = loop_results(args, "cuda")
        for _ in range(100):
            for a, b in zip(first, loop_results(args, "cuda"), strict=True):
                assert torch.equal(a, b)


@pytest.mark.parametrize("form", ["launches", "persistent", "cluster"])
def test_a_loop_of_rounded_products_is_as_the_reference(monkeypatch, form):
    with_form(monkeypatch, form)
    args = loop_cases.make("wide", dtype=torch.float32, bf16=True)
    with aligndraw.use_backend("reference"):
        truth, exact = loop_results(args, "cpu"), loop_results(loop_cases.rounding(args, False), "cpu")
    with aligndraw.use_backend("cuda"):
        found = loop_results(args, "cuda")
    for ours, theirs in zip(found, truth, strict=True):
        assert loop_cases.error(ours, theirs) < 0.05
    assert loop_cases.error(found[1], exact[1]) > 1e-4  # the KLs: they are rounded


@pytest.mark.parametrize("bf16", [False, True])
@pytest.mark.parametrize("form", ["launches", "persistent", "cluster"])
def test_a_loop_and_its_gradient_can_be_captured(monkeypatch, form, bf16):
    with_form(monkeypatch, form)
    args = loop_arguments(loop_cases.make("wide", dtype=torch.float32, bf16=bf16), "cuda")

    def call():
        results = ops.unroll(*args)
        return [*results, *torch.autograd.grad(results, loop_cases.leaves(args), [r.cos() for r in results])]

    stream, graph = torch.cuda.Stream(), torch.cuda.CUDAGraph()
    stream.wait_stream(torch.cuda.current_stream())
    with aligndraw.use_backend("cuda"), torch.cuda.stream(stream):
        expected = call()
        with torch.cuda.graph(graph, stream=stream):
            found = call()
    graph.replay()
    torch.cuda.synchronize()
    torch.testing.assert_close(found, expected, rtol=0, atol=0)


@pytest.mark.parametrize("form", ["launches", "persistent", "cluster"])
def test_a_graphed_sampler_draws_what_sample_draws(monkeypatch, form):
    with_form(monkeypatch, form)
    torch.manual_seed(0)
    model = aligndraw.AlignDRAW(aligndraw.AlignDRAWConfig.preset("quick")).cuda()
    sampler = GraphedSampler(model)
    captions, lengths = torch.randint(22, (3, 5)).cuda(), torch.tensor([5, 3, 4]).cuda()
    for seed in range(4):
        drawn = sampler.sample(captions, lengths, [torch.Generator().manual_seed(seed + i) for i in range(3)])
        truth = model.sample(captions, lengths, generator=[torch.Generator().manual_seed(seed + i) for i in range(3)])
        torch.testing.assert_close(drawn.images, truth.images)
    assert sampler.graphs.reason == "" and len(sampler.graphs) == 1


# The last, since Triton compiles each of its kernels for each of these types.
@pytest.mark.parametrize("window", ["initial", "trained", "off_image", "clamped"])
@pytest.mark.parametrize("shape", ["odd", "one", "none", "large"])
@pytest.mark.parametrize("dtype", DTYPES.values(), ids=DTYPES)
def test_as_exact_as_the_reference_on_the_cpu(op, backend, dtype, shape, window, make, as_exact):
    if window != "trained" and op not in ("read", "write"):
        pytest.skip("no window")
    as_exact(op, backend, make(op, shape, dtype, window), device="cuda")
