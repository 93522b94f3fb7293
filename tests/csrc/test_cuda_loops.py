"""The CUDA loops in the stand-in for the CUDA runtime (tests/emulation)."""

import itertools
import re
import shutil
import sys

import emulated_cuda
import loop_cases
import pytest
import torch
from loop_cases import LARGE, ONE_UNIT, SHAPES

from aligndraw import ops

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or shutil.which(emulated_cuda.compiler()) is None, reason="g++ on Linux is not here"
)

FORMS = ("launches", "persistent", "cluster")
LOOPS = {"drawn": loop_cases.drawn, "sampled": loop_cases.sampled}


@pytest.fixture(params=FORMS)
def form(request, emulation, monkeypatch):
    """Of a loop; the GPU has room for one launch of all shapes."""
    monkeypatch.setenv("ALIGNDRAW_LOOP", request.param)
    emulation.multiprocessors(8)
    return request.param


@pytest.fixture(params=LOOPS)
def run(request, form):
    """run(args): results and gradients of unroll, or results of unroll_prior, by the CUDA kernels of one form."""
    return LOOPS[request.param]


@pytest.mark.parametrize("align", [True, False])
@pytest.mark.parametrize("shape", [*SHAPES, *LARGE])
def test_equals_the_steps_in_double_precision(run, shape, align):
    args = loop_cases.make(shape, align)
    for ours, truth in zip(run(args), run(args, "reference"), strict=True):
        assert ours.shape == truth.shape and loop_cases.error(ours, truth) < 1e-11


def test_without_latents(run):
    args = loop_cases.make("odd", z=0)
    for ours, truth in zip(run(args), run(args, "reference"), strict=True):
        assert ours.shape == truth.shape and loop_cases.error(ours, truth) < 1e-11


@pytest.mark.parametrize("ones", ONE_UNIT)
def test_one_unit(run, ones):
    args = loop_cases.make("odd", ones=ones)
    for ours, truth in zip(run(args), run(args, "reference"), strict=True):
        assert ours.shape == truth.shape and loop_cases.error(ours, truth) < 1e-11


def errors_of_ten_draws(run, align, bf16):
    """By result, the mean errors of the CUDA kernels and of the reference, against float64.

    Over a loop, what one rounding grows to is a matter of luck.
    """
    errors = []
    for seed in range(10):
        args = loop_cases.make("odd", align, dtype=torch.float32, seed=seed, bf16=bf16)
        truth = run([*loop_cases.double(args)[:-1], False], "reference")
        pairs = [run(args, form) for form in ("cuda", "reference")]
        errors.append([[loop_cases.error(r, t) for r, t in zip(found, truth, strict=True)] for found in pairs])
    return torch.tensor(errors).mean(0)


@pytest.mark.parametrize("align", [True, False])
def test_is_as_exact_as_the_steps_in_single_precision(run, align):
    ours, reference = errors_of_ten_draws(run, align, False)
    assert (ours <= 2 * reference + 4 * torch.finfo(torch.float32).eps).all()


@pytest.mark.parametrize("align", [True, False])
def test_a_loop_of_rounded_products_is_as_exact_as_the_reference(form, align):
    """And it does round."""
    ours, reference = errors_of_ten_draws(loop_cases.drawn, align, True)
    assert (ours <= 2 * reference + 4 * torch.finfo(torch.float32).eps).all()
    assert 1e-4 < ours[1] < 0.05  # the KLs


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("sizes", [(5, 6, 7), (1, 1, 1), (5, 6, 1), (0, 3, 4), (13, 2, 140)])
def test_reads_captions_as_the_reference(emulation, sizes, reverse):
    args = loop_cases.make_sequence(*sizes)
    if sizes[0] > 1:
        args[-1][1] = 0  # a caption without words
    for order in (0, -1, 1):
        emulation.order(order)
        for ours, truth in zip(
            loop_cases.read(args, reverse), loop_cases.read(args, reverse, "reference"), strict=True
        ):
            assert ours.shape == truth.shape and loop_cases.error(ours, truth) < 1e-12


@pytest.mark.parametrize("reverse", [False, True])
def test_reads_captions_as_exactly_in_single_precision(emulation, reverse):
    errors = []
    for seed in range(10):
        args = loop_cases.make_sequence(dtype=torch.float32, seed=seed)
        exact = [t.detach().double().requires_grad_() for t in args[:3]] + [args[3]]
        truth = loop_cases.read(exact, reverse, "reference")
        pairs = [loop_cases.read(args, reverse, form) for form in ("cuda", "reference")]
        errors.append([[loop_cases.error(r, t) for r, t in zip(found, truth, strict=True)] for found in pairs])
    ours, reference = torch.tensor(errors).mean(0)
    assert (ours <= 2 * reference + 4 * torch.finfo(torch.float32).eps).all()


def test_the_tape_is_that_of_the_cpu(form):
    """So that a backward of either goes with a forward of the other."""
    args = loop_cases.detached(loop_cases.make("odd", bf16=False))
    for ours, theirs in zip(loop_cases.emulated("unroll", args), torch.ops.aligndraw.unroll(*args), strict=True):
        assert loop_cases.error(ours, theirs) < 1e-12


def test_the_tape_of_captions_is_that_of_the_cpu(emulation):
    args = (*loop_cases.detached(loop_cases.make_sequence()), True)
    tapes = loop_cases.emulated("lstm_sequence", args), torch.ops.aligndraw.lstm_sequence(*args)
    assert all(loop_cases.error(ours, theirs) < 1e-12 for ours, theirs in zip(*tapes, strict=True))


@pytest.mark.parametrize("forms", list(itertools.permutations(FORMS, 2)))
@pytest.mark.parametrize("shape", ["odd", "wide"])
def test_a_backward_of_one_form_goes_with_a_forward_of_the_other(emulation, monkeypatch, shape, forms):
    emulation.multiprocessors(8)
    args = loop_cases.make(shape)
    monkeypatch.setenv("ALIGNDRAW_LOOP", forms[0])
    found = loop_cases.drawn(args, between=lambda: monkeypatch.setenv("ALIGNDRAW_LOOP", forms[1]))
    for ours, truth in zip(found, loop_cases.drawn(args, "reference"), strict=True):
        assert loop_cases.error(ours, truth) < 1e-11


def test_double_precision_is_never_rounded(form):
    args = loop_cases.make("odd")
    for a, b in zip(loop_cases.drawn(args), loop_cases.drawn(loop_cases.rounding(args)), strict=True):
        assert torch.equal(a, b)


def test_only_the_gradients_that_are_wanted(form):
    args = loop_cases.make("odd")
    with_image, without = (loop_cases.drawn(args, image_grad=wanted) for wanted in (True, False))
    assert without[5].numel() == 0
    for index, (a, b) in enumerate(zip(with_image, without, strict=True)):
        assert index == 5 or torch.equal(a, b)


@pytest.mark.parametrize("shape", ["odd", "wide"])
def test_the_same_bits_in_any_order_of_threads(run, emulation, shape):
    args = loop_cases.make(shape, dtype=torch.float32)
    first = run(args)
    for order in (-1, 1, 2):
        emulation.order(order)
        assert all(torch.equal(a, b) for a, b in zip(run(args), first, strict=True))


def test_lengths_outside_a_caption_are_clamped(run):
    args = loop_cases.make("odd")
    found = [run([*args[:4], torch.tensor(lengths), *args[5:]]) for lengths in ([-3, 0, 99], [1, 1, 4])]
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


def test_words_beyond_a_caption_cannot_show(run):
    args = loop_cases.make("odd", dtype=torch.float32)
    args[4] = torch.tensor([2, 1, 2])
    with torch.no_grad():
        clean = run(args)
        args[3][:, 2:] = 1e30
    assert all(torch.equal(a, b) for a, b in zip(run(args), clean, strict=True))


def test_strides_do_not_matter(run):
    args = loop_cases.make()
    turned = [a.mT.contiguous().mT if isinstance(a, torch.Tensor) and a.dim() > 1 else a for a in args]
    turned[6], turned[7] = (type(w)(*(t.mT.contiguous().mT if t.dim() > 1 else t for t in w)) for w in args[6:8])
    assert not turned[0].is_contiguous() and not turned[6].encoder_ih.is_contiguous()
    assert all(torch.equal(a, b) for a, b in zip(run(turned), run(args), strict=True))


def test_arguments_are_checked(emulation):
    args = loop_cases.make()
    args[5] = args[5][:, :0]
    calls = {"unroll": (ops.unroll, args), "unroll_prior": (ops.unroll_prior, loop_cases.prior_args(args))}
    for name, (op, given) in calls.items():
        with torch.no_grad(), pytest.raises(RuntimeError) as theirs:
            op(*given)
        with pytest.raises(RuntimeError, match=f"^{re.escape(str(theirs.value))}$"):
            loop_cases.emulated(name, loop_cases.detached(given))


@pytest.mark.parametrize(("loop", "by_itself"), [("drawn", "launches"), ("sampled", "persistent")])
def test_the_form(emulation, monkeypatch, loop, by_itself):
    """By itself sampling a small batch is one launch; the results tell no more than rounding."""
    emulation.multiprocessors(8)
    args = loop_cases.make("odd", dtype=torch.float32)
    found = {}
    for form in ("auto", "", *FORMS):
        monkeypatch.setenv("ALIGNDRAW_LOOP", form)
        found[form] = LOOPS[loop](args)
    assert all(torch.equal(a, b) for a, b in zip(found["auto"], found[by_itself]))
    assert all(torch.equal(a, b) for a, b in zip(found[""], found["auto"]))
    for one, other in itertools.combinations(FORMS, 2):
        assert any(not torch.equal(a, b) for a, b in zip(found[one], found[other]))
    monkeypatch.setenv("ALIGNDRAW_LOOP", "fast")
    with pytest.raises(RuntimeError, match="must be auto, launches, persistent or cluster, got 'fast'"):
        LOOPS[loop](args)


@pytest.mark.parametrize(("loop", "op"), [("drawn", "unroll"), ("sampled", "unroll_prior")])
def test_tints_and_opacity_are_refused(emulation, loop, op):
    with pytest.raises(RuntimeError, match=f"{op}: tints must be 0 on a GPU, got 2"):
        LOOPS[loop](loop_cases.make("odd", tints=2))
    with pytest.raises(RuntimeError, match=f"{op}: opacity must be false on a GPU, got true"):
        LOOPS[loop](loop_cases.make("odd", opacity=True))


# Kernels and PyTorch's products per step, by whether products round. The columns of a state's product that round are
# one product, and those that do not are another.
LAUNCHES = {
    False: {"unroll": (4, 4), "unroll_backward": (5, 4), "unroll_prior": (2, 2)},
    True: {"unroll": (4, 6), "unroll_backward": (5, 4), "unroll_prior": (2, 2)},
}


@pytest.mark.parametrize("bf16", LAUNCHES)
def test_launches_per_step(emulation, monkeypatch, bf16):
    """No kernel has the sole task of rounding: that was four more launches per step, each way."""
    monkeypatch.setenv("ALIGNDRAW_LOOP", "launches")

    def counts(steps):
        args = loop_cases.make("odd", dtype=torch.float32, bf16=bf16, T=steps)
        seen = [emulation.launched()]
        loop_cases.drawn(args, between=lambda: seen.append(emulation.launched()))
        seen.append(emulation.launched())
        loop_cases.sampled(args)
        seen.append(emulation.launched())
        return [[b - a for a, b in zip(*pair, strict=True)] for pair in itertools.pairwise(seen)]

    found = [[b - a for a, b in zip(*pair, strict=True)] for pair in zip(counts(3), counts(4), strict=True)]
    assert dict(zip(LAUNCHES[bf16], map(tuple, found), strict=True)) == LAUNCHES[bf16]


def test_launches_per_word(emulation):
    def count(words):
        before = emulation.launched()
        loop_cases.read(loop_cases.make_sequence(5, words, 7, dtype=torch.float32), False)
        return [b - a for a, b in zip(before, emulation.launched(), strict=True)]

    assert [b - a for a, b in zip(count(6), count(7), strict=True)] == [2, 2]  # of both ways together


def test_training_is_the_same_bits_on_any_gpu(emulation, monkeypatch):
    """However many blocks the weights are in, and the captions."""
    monkeypatch.setenv("ALIGNDRAW_LOOP", "persistent")
    args = loop_cases.make("wide", dtype=torch.float32)
    found = []
    for count in (1, 2, 7):
        emulation.multiprocessors(count)
        found.append(loop_cases.drawn(args))
    assert all(torch.equal(a, b) and torch.equal(a, c) for a, b, c in zip(*found, strict=True))


NO_ROOM = "cannot be: the weights are larger than the device's shared memory"


@pytest.mark.parametrize(("loop", "op"), [("drawn", "unroll"), ("sampled", "unroll_prior")])
def test_where_one_launch_has_no_room(emulation, monkeypatch, loop, op):
    args = loop_cases.make("odd", n=180)  # a GPU of 4 multiprocessors, with 227 KiB each
    monkeypatch.setenv("ALIGNDRAW_LOOP", "persistent")
    with pytest.raises(RuntimeError, match=f"^{op}: ALIGNDRAW_LOOP=persistent {NO_ROOM}"):
        LOOPS[loop](args)
    found = []
    for form in ("auto", "launches"):
        monkeypatch.setenv("ALIGNDRAW_LOOP", form)
        found.append(LOOPS[loop](args))
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))
    if loop == "drawn":  # the form is chosen each way
        with pytest.raises(RuntimeError, match=f"^unroll_backward: ALIGNDRAW_LOOP=persistent {NO_ROOM}"):
            loop_cases.drawn(args, between=lambda: monkeypatch.setenv("ALIGNDRAW_LOOP", "persistent"))


def test_rounded_weights_take_half_the_room(emulation, monkeypatch):
    exact, rounded = (loop_cases.make("odd", n=240, dtype=torch.float32, bf16=bf16) for bf16 in (False, True))
    monkeypatch.setenv("ALIGNDRAW_LOOP", "persistent")
    with pytest.raises(RuntimeError, match=NO_ROOM):
        loop_cases.drawn(exact)
    truth = loop_cases.drawn(rounded, "reference")
    for ours, reference in zip(loop_cases.drawn(rounded), truth, strict=True):
        assert loop_cases.error(ours, reference) < 0.05


# Shape, multiprocessors and sizes. On one multiprocessor more captions than a tile of a product has are one block's. In
# clusters several blocks have parts of each product.
BY_GRID = [("odd", 4, {}), ("wide", 4, {}), ("tiles", 4, {}), ("wide", 1, {})]
BY_CLUSTERS = [("odd", 8, {"n": 40, "e": 40, "z": 40}), ("tiles", 8, {})]


@pytest.mark.parametrize(("file", "line"), emulated_cuda.barriers(of_loops=True))
def test_no_barrier_can_be_left_out(emulation, monkeypatch, file, line):
    emulation.leave_out(f"/{file}", line)
    in_clusters = file.startswith("cluster")
    cases = itertools.product(*((BY_CLUSTERS, ["cluster"]) if in_clusters else (BY_GRID, FORMS[1::-1])))
    with pytest.raises(RuntimeError, match="CUDA: (race|uninitialised shared memory|shared memory of block)"):
        for (shape, multiprocessors, sizes), form in cases:
            monkeypatch.setenv("ALIGNDRAW_LOOP", form)
            emulation.multiprocessors(multiprocessors)
            args = loop_cases.make(shape, dtype=torch.float32, **sizes)
            loop_cases.sampled(args)
            loop_cases.drawn(args)
