import copy
import math

import pytest
import torch
from torch import nn

import aligndraw
from aligndraw import AlignDRAW, AlignDRAWConfig, TrainingConfig, use_backend
from aligndraw.ops import orthogonal, rounds_fast
from aligndraw.training import Muon, RMSprop, build_optimizer, clip_scales, learning_rate


def test_rmsprop_is_the_authors_rule():
    torch.manual_seed(0)
    parameter = nn.Parameter(torch.randn(4, dtype=torch.float64))
    unused = nn.Parameter(torch.ones(2))
    optimizer = RMSprop([parameter, unused], lr=0.1)
    p, v = parameter.detach().clone(), torch.zeros(4, dtype=torch.float64)
    for _ in range(5):
        g = torch.randn(4, dtype=torch.float64)
        parameter.grad = g.clone()
        optimizer.step()
        v = 0.9 * v + 0.1 * g**2
        p = p - 0.1 * g / torch.sqrt(v + 1e-6)
        torch.testing.assert_close(parameter.detach(), p, rtol=1e-12, atol=0)
    assert (unused == 1).all()


def test_rmsprop_state_round_trip():
    def trained(steps):
        torch.manual_seed(0)
        parameter = nn.Parameter(torch.ones(3))
        optimizer = RMSprop([parameter], lr=0.1)
        for i in range(steps):
            parameter.grad = torch.tensor([1.0, -2.0, 0.5]) * (i + 1)
            optimizer.step()
        return parameter, optimizer

    (a, first), (b, second) = trained(3), trained(0)
    b.data.copy_(a.data)
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    for parameter, optimizer in ((a, first), (b, second)):
        parameter.grad = torch.ones(3)
        optimizer.step()
    assert torch.equal(a, b)


@pytest.mark.parametrize("clip", ["global", "per_tensor"])
def test_clipping(clip):
    a, b, c = (nn.Parameter(torch.zeros(2)) for _ in range(3))
    a.grad, b.grad = torch.tensor([30.0, 40.0]), torch.tensor([3.0, 4.0])
    norm, scales = clip_scales([a, b, c], TrainingConfig(clip=clip, clip_norm=10.0))
    total = math.sqrt(50**2 + 5**2)
    assert norm.item() == pytest.approx(total) and set(scales) == {a, b}
    wanted = (10 / total, 10 / total) if clip == "global" else (10 / 50, 1.0)
    assert [scales[a].item(), scales[b].item()] == pytest.approx(wanted)


def test_no_clipping():
    a = nn.Parameter(torch.zeros(2))
    a.grad = torch.tensor([30.0, 40.0])
    assert clip_scales([a], TrainingConfig(clip_norm=0.0))[1][a] == 1


@pytest.mark.parametrize("backend", ["reference", "cpp"])
def test_rmsprop_with_scales_is_rmsprop_of_scaled_gradients(backend):
    if backend == "cpp" and aligndraw.backends.missing_reason("rmsprop_", "cpp", "cpu"):
        pytest.skip("no C++ ops here")
    torch.manual_seed(0)
    shapes = [(70_000,), (3, 5), (), (0, 2)]
    start = [torch.randn(shape) for shape in shapes]
    ours, truth = ([nn.Parameter(t.to(dtype)) for t in start] for dtype in (torch.float32, torch.float64))
    with aligndraw.use_backend(backend):
        for parameters in (ours, truth):
            optimizer = RMSprop(parameters, lr=0.1)
            generator = torch.Generator().manual_seed(1)
            for _ in range(3):
                scales = {}
                for i, p in enumerate(parameters):
                    p.grad = torch.randn(p.shape, generator=generator).to(p.dtype)
                    scales[p] = torch.tensor(0.5**i).to(p.dtype)
                    if p.dtype == torch.float64:
                        p.grad *= scales[p]
                optimizer.step(scales=scales if parameters is ours else None)
    for p, exact in zip(ours, truth):
        torch.testing.assert_close(p, exact.float(), rtol=2e-6, atol=2e-6)


def test_sparse_gradients_end_as_dense_ones():
    """Rows that a batch does not name keep their values and stay true to the rule."""
    config = AlignDRAWConfig(
        image_size=(6, 5), steps=2, read_size=2, write_size=2, encoder_units=5, decoder_units=4, latent_units=3,
        language_units=3, align_units=4, vocabulary_size=50, canvas_init=0.0, word_values="embeddings",
    )  # fmt: skip
    torch.manual_seed(0)
    model = AlignDRAW(config).double()
    models = [model, copy.deepcopy(model)]
    recipe = TrainingConfig(batch_size=4, epoch_size=8, clip_norm=0.5)
    for model, sparse in zip(models, (True, False)):
        optimizer = build_optimizer(model, recipe, "float32")
        assert isinstance(optimizer, RMSprop) and model.language.forward_lstm.sparse
        model.make_sparse(sparse)
        for step in range(12):
            generator = torch.Generator().manual_seed(step)
            captions = torch.randint(0, 50, (4, 3), generator=generator)
            images = torch.rand(4, 1, 6, 5, generator=generator).double()
            optimizer.zero_grad()
            model(images, captions, generator=step).loss.backward()
            tables = model.language.forward_lstm.words, model.language.backward_lstm.words, model.values.words
            assert [table.grad.is_sparse for table in tables] == [sparse] * 3
            _, scales = clip_scales(model.parameters(), recipe)
            optimizer.step(scales=scales)
    for a, b in zip(models[0].parameters(), models[1].parameters()):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-12)
    for other in (TrainingConfig(batch_size=16, epoch_size=16), recipe.replace(optimizer="adam")):
        model.make_sparse(True)
        build_optimizer(model, other, "float32")
        assert not model.language.forward_lstm.sparse


@pytest.mark.parametrize("products", ["float32", "bf16", "bf16 by kernels"])
def test_muon_is_that_of_pytorch_and_adam(products):
    """PyTorch's Muon iterates in bfloat16; kernels round elsewhere, but no more, as a twin in float64 tells."""
    if products == "bf16 by kernels" and not rounds_fast("cpu"):
        pytest.skip("no matrix tiles here")
    torch.manual_seed(0)
    shapes = [(12, 7), (5, 9), (6,), (4, 3)]
    starts = [torch.randn(shape) for shape in shapes]
    ours, theirs, exact = (
        [nn.Parameter(t.to(kind, copy=True)) for t in starts] for kind in (torch.float32, torch.float32, torch.float64)
    )
    muon = Muon(ours, ours[:2], lr=0.1, bf16=products != "float32")
    others = [
        torch.optim.Muon(theirs[:2], lr=0.2, weight_decay=0.0, adjust_lr_fn="match_rms_adamw"),
        torch.optim.Adam(theirs[2:], lr=0.1, fused=True),
        Muon(exact, exact[:2], lr=0.1),
    ]
    for _ in range(4):
        for a, b, c in zip(ours, theirs, exact):
            a.grad = torch.randn_like(a)
            b.grad, c.grad = a.grad.clone(), a.grad.double()
        with use_backend("cpp" if products == "bf16 by kernels" else "reference"):
            muon.step()
        for optimizer in others:
            optimizer.step()
    assert all(torch.equal(a, b) for a, b in zip(ours[2:], theirs[2:]))
    for a, b, c, start in zip(ours[:2], theirs, exact, starts):
        assert (a - start).abs().max() > 0.1
        if products == "bf16":
            assert (a - b).abs().max() < 1e-6
        elif products == "float32":
            assert (a - c).abs().max() < 1e-5
        else:
            assert 0 < (a - b).abs().max() and (a - c).norm() < 2 * (b - c).norm()


def test_orthogonal():
    torch.manual_seed(0)
    for shape in ((40, 30), (30, 40), (1, 5)):
        g = torch.randn(shape, dtype=torch.float64)
        u, _, vt = torch.linalg.svd(g, full_matrices=False)
        found = orthogonal(g)
        values = torch.linalg.svdvals(found)
        assert 0.6 < values.min() and values.max() < 1.3
        assert (found - u @ vt).norm() < 0.32 * (u @ vt).norm()
    assert not orthogonal(torch.zeros(3, 2)).any()


def test_schedules():
    paper = TrainingConfig.preset("paper")
    assert learning_rate(paper, 110 * 100 - 1) == pytest.approx(1e-3)
    assert learning_rate(paper, 110 * 100) == pytest.approx(1e-4)
    cosine = TrainingConfig(schedule="cosine", epochs=2, learning_rate=1.0)
    assert learning_rate(cosine, 0) == pytest.approx(1.0)
    assert learning_rate(cosine, 100) == pytest.approx(0.505)
    assert learning_rate(cosine, 200) == pytest.approx(0.01)


@pytest.mark.parametrize("name", ["rmsprop", "adam", "muon"])
def test_a_loaded_state_goes_where_the_parameters_are(name):
    """A checkpoint is read on the CPU."""
    config = AlignDRAWConfig(steps=1, encoder_units=3, decoder_units=3, latent_units=2, language_units=2, align_units=2)
    here, there = AlignDRAW(config), AlignDRAW(config).to("meta")
    recipe = TrainingConfig(batch_size=4, epoch_size=8, optimizer=name)
    ours, theirs = (build_optimizer(model, recipe, "float32") for model in (here, there))
    for p in here.parameters():
        p.grad = torch.ones_like(p)
    ours.step()
    theirs.load_state_dict(ours.state_dict())
    loaded = [t for state in theirs.state.values() for t in state.values()]
    assert loaded and all(t.is_meta for t in loaded)


@pytest.mark.parametrize("build", [RMSprop, lambda params: Muon(params, params, bf16=True)], ids=["rmsprop", "muon"])
def test_a_step_counts_as_a_change(build):
    """A gradient through parameters that had changed meanwhile was that of the new ones."""
    parameter = nn.Parameter(torch.ones(3, 3))
    optimizer = build([parameter])
    loss = parameter.square().sum()
    parameter.grad = torch.ones(3, 3)
    optimizer.step()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()
