"""The model takes all steps as one op where it can, and nobody can tell but by the clock."""

import copy

import pytest
import torch
import torch._dynamo.testing
from torch import nn

import aligndraw
from aligndraw import AlignDRAW, AlignDRAWConfig
from aligndraw.backends import missing_reason

pytestmark = pytest.mark.skipif(bool(missing_reason("unroll", "cpp", "cpu")), reason="no C++ ops here")

SMALL = AlignDRAWConfig(
    image_size=(9, 7),
    steps=3,
    read_size=3,
    write_size=2,
    encoder_units=6,
    decoder_units=5,
    latent_units=4,
    language_units=3,
    align_units=4,
    vocabulary_size=8,
    canvas_init=-1.0,
)
KINDS = {
    "align": {},
    "noalign": {"align": False},
    "embeddings": {"word_values": "embeddings"},
    "sharper attention": {"attention_scale": 1.7},
    "fixed windows": {"window_span": 4.0},
    "one window": {"read_window": "write"},
    "one window, fixed": {"read_window": "write", "window_span": 4.0},
    "tints": {"tints": 2, "channels": 3},
    "opacity": {"opacity": True, "tints": 1, "channels": 3},
    "shape units": {"shape_units": 4, "tints": 3, "channels": 3},
    "shape units, one tint": {"shape_units": 3, "tints": 1},
    "shape units, opacity": {"shape_units": 4, "word_values": "embeddings", "opacity": True},
    "keys of words": {"word_keys": "embeddings"},
    "both values": {"word_values": "both"},
    "both values, shape units": {"word_values": "both", "word_keys": "embeddings", "shape_units": 4},
    "a question of each step": {"attention_query": "step"},
    "shape units, a question of each step": {"shape_units": 4, "tints": 2, "attention_query": "step"},
    "colour, gaussian": {"channels": 3, "likelihood": "gaussian", "observation_variance": 0.3},
}


def make(kind="align", dtype=torch.float64):
    torch.manual_seed(0)
    model = AlignDRAW(SMALL.replace(**KINDS[kind])).to(dtype)
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.4)
    images = torch.rand(5, model.config.channels, 9, 7, dtype=dtype)
    captions, lengths = torch.randint(8, (5, 6)), torch.tensor([1, 6, 3, 2, 5])
    return model, images, captions, lengths


def bound_and_grads(model, images, captions, lengths, **kwargs):
    bound = model(images, captions, lengths, **kwargs)
    model.zero_grad()
    (bound.loss + bound.log_weight.sum()).backward()
    return [t.detach() for t in bound] + [p.grad.clone() for p in model.parameters() if p.grad is not None]


def close(ours, theirs, tolerance=1e-9):
    pairs = list(zip(ours, theirs, strict=True))
    return all((a - b).abs().max() <= tolerance * b.abs().max().clamp(min=1e-3) for a, b in pairs)


def hooked(model):
    """The same model step by step: a hook that does nothing looks on."""
    other = copy.deepcopy(model)
    other.write.register_forward_hook(lambda *args: None)
    assert other.fallback_reason("unroll") == "write has hooks"
    return other


@pytest.mark.parametrize("part", ["tints", "opacity"])
@pytest.mark.parametrize(("backend", "reason"), [("cuda", "no CUDA loop has "), ("triton", "")])
def test_some_parts_go_step_by_step_where_the_loop_is_in_cuda(monkeypatch, backend, reason, part):
    monkeypatch.setattr("aligndraw.model.draw.backend_for", lambda loop, device: backend)
    model = AlignDRAW(SMALL.replace(**{part: 1 if part == "tints" else True}))
    for loop in ("unroll", "unroll_prior"):
        assert model.fallback_reason(loop) == reason + part * bool(reason)
        assert make("align")[0].fallback_reason(loop) == ""


@pytest.mark.parametrize("samples", [1, 3])
@pytest.mark.parametrize("kind", KINDS)
def test_bound_and_gradients_are_those_of_the_steps(kind, samples):
    model, *inputs = make(kind)
    assert model.fallback_reason("unroll") == ""
    ours = bound_and_grads(model, *inputs, generator=3, samples=samples)
    theirs = bound_and_grads(hooked(model), *inputs, generator=3, samples=samples)
    assert len(ours) > 20 and close(ours, theirs)


@pytest.mark.parametrize("kind", KINDS)
def test_drawings_are_those_of_the_steps(kind):
    model, _, captions, lengths = make(kind)
    assert model.fallback_reason("unroll_prior") == ""
    ours, theirs = (m.sample(captions, lengths, generator=3) for m in (model, hooked(model)))
    for name in ("images", "canvases", "windows", "patches", "weights"):
        a, b = getattr(ours, name), getattr(theirs, name)
        assert (a is None and b is None) or close([a], [b])


@pytest.mark.parametrize("kind", KINDS)
def test_a_change_of_any_parameter_changes_the_next_drawing(kind):
    """The model keeps its decoder's weights packed. A copy of the model packs them anew."""
    model, _, captions, lengths = make(kind, torch.float32)
    before = model.sample(captions, lengths, generator=3).images
    same = []
    for name, parameter in model.named_parameters():
        parameter.data.view(-1)[parameter.numel() // 2] += 1
        after = model.sample(captions, lengths, generator=3).images
        assert torch.equal(after, copy.deepcopy(model).sample(captions, lengths, generator=3).images)
        if torch.equal(after, before):
            same.append(name)
        before = after
    # No drawing reads the inference part, and a word that no caption has.
    assert all(name.startswith(("read.", "encoder.", "posterior.", "language.", "values.")) for name in same)


def test_gradient_of_the_image():
    model, images, captions, lengths = make()
    grads = []
    for m in (model, hooked(model)):
        leaf = images.clone().requires_grad_()
        m(leaf, captions, lengths, generator=3).loss.backward()
        grads.append(leaf.grad)
    assert close(grads[:1], grads[1:])


def test_what_looks_between_the_steps_gets_steps():
    model, *_ = make(dtype=torch.float32)

    class Mine(AlignDRAW):
        def step(self, *args, **kwargs):
            return super().step(*args, **kwargs)

    class Quiet(nn.Linear):
        pass

    assert Mine(SMALL).fallback_reason("unroll") == "Mine has a step of its own"
    other = copy.deepcopy(model)
    other.write.patch = Quiet(5, 4)
    assert other.fallback_reason("unroll") == "write.patch is a Quiet"
    with torch.autocast("cpu", dtype=torch.float16):
        assert model.fallback_reason("unroll") == "autocast to float16"
    with aligndraw.use_backend("reference"):
        assert model.fallback_reason("unroll") == "the reference backend"
    assert copy.deepcopy(model).half().fallback_reason("unroll") == "parameters in float16"
    assert AlignDRAW(SMALL.replace(conventions="released")).fallback_reason("unroll") == "the released conventions"
    seen = []
    model.decoder.register_forward_hook(lambda module, args, output: seen.append(output[0].shape))
    model.sample(torch.zeros(2, 3, dtype=torch.int64), generator=0)
    assert len(seen) == 3


@pytest.mark.parametrize("steps", ["one op", "hooked"])
def test_autocast(steps):
    model, *inputs = make(dtype=torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert not model.fallback_reason("unroll")
        low = (hooked(model) if steps == "hooked" else model)(*inputs, generator=3)
    low.loss.backward()
    full = model(*inputs, generator=3)
    assert low.loss.dtype == torch.float32
    assert torch.allclose(low.loss, full.loss, rtol=0.02) and not torch.equal(low.kl, full.kl)


def test_sampling_under_autocast_is_in_full_precision():
    model, _, captions, lengths = make(dtype=torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        low = model.sample(captions, lengths, generator=3)
    assert torch.equal(low.images, model.sample(captions, lengths, generator=3).images)


def test_deepcopy_and_functional_call():
    model, *inputs = make()
    twin = copy.deepcopy(model)
    values = {name: 1.5 * p.detach() for name, p in model.named_parameters()}
    there = torch.func.functional_call(model, values, tuple(inputs), {"generator": 3})
    with torch.no_grad():
        for p in twin.parameters():
            p.mul_(1.5)
    here = twin(*inputs, generator=3)
    assert torch.equal(there.loss, here.loss)
    assert not torch.equal(here.loss, model(*inputs, generator=3).loss)


@pytest.mark.parametrize("optimizer", [torch.optim.SGD, torch.optim.AdamW, torch.optim.RMSprop])
def test_any_optimizer(optimizer):
    model, *inputs = make()
    optimizer = optimizer(model.parameters(), lr=1e-3)
    losses = []
    for _ in range(12):
        optimizer.zero_grad()
        loss = model(*inputs, generator=3).loss
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]


def test_distributed_data_parallel(tmp_path):
    model, *inputs = make()
    alone = bound_and_grads(copy.deepcopy(model), *inputs, generator=3)

    def shared():
        """Its wrapper ends before the group. After it, PyTorch waits for a thread that may wait for the interpreter."""
        bound = nn.parallel.DistributedDataParallel(model)(*inputs, generator=3)
        (bound.loss + bound.log_weight.sum()).backward()
        return [t.detach() for t in bound] + [p.grad for p in model.parameters() if p.grad is not None]

    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/rendezvous", rank=0, world_size=1)
    try:
        assert close(shared(), alone)
    finally:
        torch.distributed.destroy_process_group()


@pytest.mark.parametrize("kind", ["align", "sharper attention"])
def test_compiled_user_code_with_captions_of_any_length(kind):
    model, images, *_ = make(kind)
    torch.compiler.reset()
    counter = torch._dynamo.testing.CompileCounterWithBackend("aot_eager")
    noise = torch.randn(5, 3, 4, dtype=torch.float64)

    @torch.compile(backend=counter, fullgraph=True, dynamic=True)
    def loss(captions):
        return 2 * model(images, captions, noise=noise).loss

    for count in (6, 8, 9):  # none is another size as well: the compiler would take them for one
        captions = torch.randint(8, (5, count))
        found = torch.autograd.grad(loss(captions), model.canvas)[0]
        wanted = torch.autograd.grad(2 * model(images, captions, noise=noise).loss, model.canvas)[0]
        assert close([found], [wanted])
    assert counter.frame_count == 1
