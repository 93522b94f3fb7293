"""AlignDRAW beyond the goldens: masks, samples, seeds, what it refuses."""

import copy
import math

import pytest
import torch

from aligndraw import AlignDRAW, AlignDRAWConfig, TrainingConfig, ops, use_backend


def test_sizes_of_the_paper():
    """Parameter counts of the released models (K = 23 words for MNIST)."""
    with torch.device("meta"):
        mnist = AlignDRAW(AlignDRAWConfig.preset("paper").replace(vocabulary_size=23))
        coco = AlignDRAW(AlignDRAWConfig.preset("coco"))
    assert sum(p.numel() for p in mnist.parameters()) == 2_371_746
    assert sum(p.numel() for p in coco.parameters()) == 33_098_147


@pytest.mark.parametrize("config", ["quick", TrainingConfig.preset("quick"), None])
def test_configurations_that_are_not_of_a_model(config):
    with pytest.raises(TypeError, match=f"^config must be of a model, got {type(config).__name__}$"):
        AlignDRAW(config)


@pytest.mark.parametrize("align", [True, False])
@pytest.mark.parametrize("likelihood", ["bernoulli", "gaussian"])
def test_a_caption_does_not_depend_on_its_batch(tiny, batch, align, likelihood):
    """Alone and unpadded, or padded among others: the same numbers and the same gradients."""
    model = tiny(align=align, likelihood=likelihood)
    images, captions, lengths = batch
    noise = torch.randn(3, 4, 5, dtype=torch.float64)
    together = model(images, captions, lengths, noise=noise)
    together.loss.backward()
    grads = [p.grad.clone() for p in model.parameters()]
    model.zero_grad()
    for b, length in enumerate(lengths.tolist()):
        alone = model(images[b : b + 1], captions[b : b + 1, :length], noise=noise[b : b + 1])
        (alone.loss / 3).backward()
        for name in ("kl", "nll", "log_weight"):
            torch.testing.assert_close(getattr(alone, name)[0], getattr(together, name)[b], rtol=1e-10, atol=0)
    for parameter, grad in zip(model.parameters(), grads):
        torch.testing.assert_close(parameter.grad, grad, rtol=1e-9, atol=1e-12)


def test_sampling_masks_too(tiny, batch):
    model, (_, captions, lengths) = tiny(), batch
    noise = torch.randn(3, 4, 5, dtype=torch.float64)
    together = model.sample(captions, lengths, noise=noise)
    for b, length in enumerate(lengths.tolist()):
        alone = model.sample(captions[b : b + 1, :length], noise=noise[b : b + 1])
        torch.testing.assert_close(alone.images[0], together.images[b], rtol=1e-10, atol=0)
        assert (together.weights[b, :, length:] == 0).all()


def test_the_loss_is_the_mean_bound(tiny, batch):
    images, captions, lengths = batch
    bound = tiny()(images, captions, lengths, generator=0)
    torch.testing.assert_close(bound.loss, (bound.kl + bound.nll).mean())
    torch.testing.assert_close(bound.kl, bound.kl_steps.sum(1))
    assert bound.kl_steps.shape == (3, 4)


def test_gaussian_likelihood(tiny, batch):
    """−log N(x; σ(c_T), σ²), constant included, against torch's own density."""
    model = tiny(likelihood="gaussian", observation_variance=0.3)
    images, captions, lengths = batch
    noise = torch.randn(3, 4, 5, dtype=torch.float64)
    caption, state = model.encode_captions(captions, lengths), model.initial_state(3)
    for epsilon in noise.unbind(1):
        state, _ = model.step(caption, state, epsilon, images)
    density = torch.distributions.Normal(state.canvas.sigmoid(), math.sqrt(0.3))
    wanted = -density.log_prob(images).sum((1, 2, 3))
    torch.testing.assert_close(model(images, captions, lengths, noise=noise).nll, wanted)


def test_several_samples(tiny, batch):
    """kl and nll are means over the samples, log_weight the log of the mean weight."""
    model, (images, captions, lengths) = tiny(), batch
    noise = torch.randn(3 * 8, 4, 5, dtype=torch.float64)
    many = model(images, captions, lengths, noise=noise, samples=8)
    ones = [model(images, captions, lengths, noise=noise.view(3, 8, 4, 5)[:, i]) for i in range(8)]
    torch.testing.assert_close(many.nll, torch.stack([o.nll for o in ones]).mean(0))
    torch.testing.assert_close(many.kl_steps, torch.stack([o.kl_steps for o in ones]).mean(0))
    weights = torch.stack([o.log_weight for o in ones])
    torch.testing.assert_close(many.log_weight, weights.logsumexp(0) - math.log(8))
    assert (many.log_weight >= weights.mean(0)).all()


def test_log_weight_is_unbiased(tiny):
    """With the posterior set to the prior, every weight is the likelihood and the KL is zero."""
    model = tiny(steps=1)
    with torch.no_grad():
        for head in (model.posterior.mu, model.posterior.log_variance):
            head.weight.zero_()
            head.bias.zero_()
    images = torch.rand(2, 2, 9, 7, dtype=torch.float64)
    bound = model(images, torch.zeros(2, 3, dtype=torch.int64), generator=0)
    torch.testing.assert_close(bound.kl, torch.zeros(2, dtype=torch.float64))
    torch.testing.assert_close(bound.log_weight, -bound.nll)


def test_noalign_sees_one_sentence(tiny, batch):
    model, (_, captions, lengths) = tiny(align=False), batch
    assert model.align is None
    drawing = model.sample(captions, lengths, generator=0)
    assert drawing.weights is None and drawing.images.shape == (3, 2, 9, 7)


def test_windows_of_a_fixed_size(tiny, batch):
    """The first and the last filter are `window_span` pixels apart, sigma is half the spacing, the rest is learned."""
    model = tiny(window_span=4.0, read_size=3, write_size=5)
    images, captions, lengths = batch
    noise = torch.randn(3, 4, 5, dtype=torch.float64)
    state, caption = model.initial_state(3), model.encode_captions(captions, lengths)
    for epsilon in noise.unbind(1):
        state, step = model.step(caption, state, epsilon, images)
        for window, size in ((step.read_window, 3), (step.write_window, 5)):
            spacing = (9 - 1) / (size - 1) * window[:, 3].exp()
            torch.testing.assert_close(spacing * (size - 1), torch.full_like(spacing, 4.0))
            torch.testing.assert_close((window[:, 2] / 2).exp(), spacing / 2)
    assert (step.write_window[:, [0, 1, 4]].std(0) > 1e-3).all()
    assert model.write.window.weight.shape == (3, 10) and model.read.window.bias.shape == (3,)
    model(images, captions, lengths, noise=noise).loss.backward()
    assert (model.write.window.weight.grad.abs().sum(1) > 0).all()


@pytest.mark.parametrize("window_span", [0.0, 4.0])
def test_the_glimpse_goes_through_the_window_of_the_last_write(tiny, batch, window_span):
    """With `read_window="write"`, but for its intensity e; first through that of h_0. There is no head to learn."""
    model = tiny(read_window="write", window_span=window_span)
    assert not [name for name, _ in model.named_parameters() if name.startswith("read.")]
    images, captions, lengths = batch
    state, caption = model.initial_state(3), model.encode_captions(captions, lengths)
    last = model.write.window(state.decoder[0])
    for epsilon in torch.randn(3, 4, 5, dtype=torch.float64).unbind(1):
        state, step = model.step(caption, state, epsilon, images)
        assert torch.equal(step.read_window[:, :4], last[:, :4])
        torch.testing.assert_close(step.read_window[:, 4].exp(), torch.full((3,), math.e, dtype=torch.float64))
        last = step.write_window
    assert (last[:, 4] != 1).all()


def test_the_value_of_a_word_is_its_own(tiny, batch):
    """With embeddings other words change where is attended to and not what is read; with states both."""
    _, captions, lengths = batch
    others = captions.clone()
    others[:, 0] = (others[:, 0] + 1) % 12
    for word_values, same in (("embeddings", True), ("states", False)):
        model = tiny(word_values=word_values)
        told, changed = model.encode_captions(captions, lengths), model.encode_captions(others, lengths)
        assert (told.words[:, 1] == changed.words[:, 1]).all() == same
        assert not (told.keys[:, 1] == changed.keys[:, 1]).all()
        assert not (told.words[:, 0] == changed.words[:, 0]).any(1).all()
    table = tiny(word_values="embeddings").values.words
    assert table.shape == (12, 12)
    torch.testing.assert_close(tiny(word_values="embeddings").encode_captions(captions, lengths).words, table[captions])


def test_both_values_and_keys_of_words(tiny, batch):
    """Both values are the embeddings, then the states. A key of an embedding is that of the word alone."""
    _, captions, lengths = batch
    models = {values: tiny(word_values=values, word_keys="embeddings") for values in ("embeddings", "states", "both")}
    models["both"].load_state_dict(models["embeddings"].state_dict() | {
        name: value for name, value in models["both"].state_dict().items() if name == "decoder.weight_ih"
    })  # fmt: skip
    models["states"].load_state_dict(models["embeddings"].state_dict())
    told = {values: model.encode_captions(captions, lengths) for values, model in models.items()}
    assert told["both"].words.shape == (3, 6, 24)
    assert torch.equal(told["both"].words, torch.cat([told["embeddings"].words, told["states"].words], 2))
    model = models["both"]
    for caption in told.values():
        torch.testing.assert_close(caption.keys, model.values.words[captions] @ model.align.key.weight.mT)


def test_a_caption_of_one_vector_is_read_as_it_is(tiny):
    model = tiny(word_values="both")
    vectors = torch.randn(3, 24, dtype=torch.float64)
    caption = model.caption_from_vectors(vectors)
    noise = torch.zeros(3, 4, model.config.latent_units, dtype=torch.float64)
    drawn = model.draw(caption, noise)
    assert torch.equal(drawn.weights, torch.ones(3, 4, 1, dtype=torch.float64))
    assert not torch.equal(drawn.images[0], drawn.images[1])
    caption = caption._replace(keys=torch.randn_like(caption.keys))
    assert torch.equal(drawn.images, model.draw(caption, noise).images)


def test_the_scale_of_attention_sharpens_it(tiny, batch):
    """Weights are softmax(scale · e): those of a scale of 1 to the power of the scale, normalised."""
    _, captions, lengths = batch
    plain, sharp = tiny(), tiny(attention_scale=2.5)
    sharp.load_state_dict(plain.state_dict())
    h = plain.initial_state(3).decoder[0]
    told = plain.encode_captions(captions, lengths)
    context, weights = plain.align(h, told.keys, told.words, told.lengths)
    sharper, sharp_weights = sharp.align(h, told.keys, told.words, told.lengths)
    expected = weights**2.5
    torch.testing.assert_close(sharp_weights, expected / expected.sum(1, keepdim=True))
    assert (sharp_weights.max(1).values > weights.max(1).values)[lengths > 1].all()
    assert not torch.equal(sharper, context)


@pytest.mark.parametrize("part", ["attention", "window"])
def test_a_changed_number_counts_in_the_next_drawing(tiny, batch, part):
    """The packed weights depend on numbers that are no parameters too."""
    _, captions, lengths = batch
    model = tiny(attention_scale=1.0, window_span=4.0).float()
    noise = torch.randn(3, 4, 5)
    with torch.no_grad():
        model.sample(captions, lengths, noise=noise)
        if part == "attention":
            model.align.scale = 5.0
        else:
            model.write.window.log_size = (-1.0, -2.0)
        kept = model.sample(captions, lengths, noise=noise)
        with use_backend("reference"):
            truth = model.sample(captions, lengths, noise=noise)
    torch.testing.assert_close(kept.images, truth.images, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(kept.weights, truth.weights, rtol=1e-4, atol=1e-5)


def test_a_model_from_before_there_were_these_fields(tiny):
    """Its configuration says nothing of values and windows: the same parameters, by name and shape."""
    earlier = tiny().config.to_dict()
    assert (earlier.pop("word_values"), earlier.pop("window_span")) == ("states", 0.0)
    assert earlier.pop("word_keys") == "states"
    assert (earlier.pop("read_window"), earlier.pop("attention_scale")) == ("own", 1.0)
    assert (earlier.pop("tints"), earlier.pop("opacity")) == (0, False)
    assert (earlier.pop("shape_units"), earlier.pop("attention_query")) == (0, "state")
    again = AlignDRAW(AlignDRAWConfig.from_dict(earlier))
    assert {n: p.shape for n, p in again.named_parameters()} == {n: p.shape for n, p in tiny().named_parameters()}
    assert "values.words" not in dict(again.named_parameters())
    assert "values.words" in dict(tiny(word_values="embeddings").named_parameters())


def test_steps_ask_the_same_of_each_drawing_of_a_caption(tiny, batch):
    _, captions, lengths = batch
    for query, same in (("state", False), ("step", True)):
        model = tiny(attention_query=query)
        one, other = (model.sample(captions, lengths, generator=seed).weights for seed in (1, 2))
        assert torch.equal(one, other) == same
        assert one[:2].diff(dim=1).abs().amax(2).min() > 1e-5  # each step has a question of its own


def test_no_step_follows_the_last_one(tiny, batch):
    model, (images, captions, lengths) = tiny(attention_query="step"), batch
    caption, state = model.encode_captions(captions, lengths), model.initial_state(3, encode=False)
    noise = torch.zeros(3, model.config.latent_units, dtype=images.dtype)
    for _ in range(model.config.steps):
        state, _ = model.step(caption, state, noise)
    with pytest.raises(ValueError, match="^state must have a step left, got one after all 4$"):
        model.step(caption, state, noise)
    message = "^steps must be at most the 4 that have a query of their own, got 5$"
    with pytest.raises(ValueError, match=message):
        model.sample(captions, lengths, steps=5)
    with pytest.raises(ValueError, match=message):
        model(images, captions, lengths, noise=torch.zeros(3, 5, model.config.latent_units, dtype=images.dtype))
    fewer = model.sample(captions, lengths, steps=3, generator=1).weights
    assert torch.equal(fewer, model.sample(captions, lengths, generator=1).weights[:, :3])


def test_a_drawing_tells_how_it_came_about(tiny, batch):
    model, (_, captions, lengths) = tiny(), batch
    drawing = model.sample(captions, lengths, generator=3)
    assert drawing.images.shape == (3, 2, 9, 7)
    assert drawing.weights.shape == (3, 4, 6)
    assert drawing.windows.shape == (3, 4, 5)
    assert drawing.patches.shape == (3, 4, 2, 4, 4)
    assert drawing.canvases.shape == (3, 4, 2, 9, 7)
    torch.testing.assert_close(drawing.canvases[:, -1].sigmoid(), drawing.images)
    torch.testing.assert_close(drawing.weights.sum(2), torch.ones(3, 4, dtype=torch.float64))


def test_patches_that_cover(tiny, batch):
    """With opacity the patch of a step has a channel more, and hides the canvas of the step before."""
    model, (images, captions, lengths) = tiny(opacity=True, tints=1), batch
    drawing = model.sample(captions, lengths, generator=3)
    assert drawing.patches.shape == (3, 4, 3, 4, 4) and (drawing.patches[:, :, -1] > 0).all()
    torch.testing.assert_close(drawing.canvases[:, -1].sigmoid(), drawing.images)
    before, patch, window = drawing.canvases[:, 1], drawing.patches[:, 2], drawing.windows[:, 2]
    torch.testing.assert_close(drawing.canvases[:, 2], ops.cover(patch, window, before))
    assert not torch.allclose(drawing.canvases[:, 2], ops.write(patch[:, :-1].contiguous(), window, before))
    joined = type(drawing).joined([drawing, drawing.cloned(6)])
    torch.testing.assert_close(joined.canvases, torch.cat([drawing.canvases] * 2))
    model(images, captions, lengths, generator=1).loss.backward()
    assert model.write.opacity.weight.grad.abs().max() > 0


def test_a_seed_gives_each_image_its_own_stream(tiny):
    model = tiny()
    captions = torch.randint(0, 12, (1, 5))
    five, two = (model.sample(captions.expand(n, -1), generator=7).images for n in (5, 2))
    torch.testing.assert_close(five[:2], two, rtol=1e-12, atol=0)
    assert not torch.allclose(five[0], five[1])
    assert not torch.allclose(five[0], model.sample(captions, generator=8).images[0])


def test_a_list_of_generators(tiny):
    model, captions = tiny(), torch.randint(0, 12, (2, 5))

    def generators(*seeds):
        return [torch.Generator().manual_seed(s) for s in seeds]

    a = model.sample(captions, generator=generators(1, 2)).images
    b = model.sample(captions.flip(0), generator=generators(2, 1)).images
    torch.testing.assert_close(a, b.flip(0), rtol=1e-12, atol=0)
    with pytest.raises(ValueError, match="one generator per image, 2, got 1"):
        model.sample(captions, generator=generators(1))


def test_temperature_and_steps(tiny):
    model, captions = tiny(), torch.randint(0, 12, (2, 5))
    cold = [model.sample(captions, generator=s, temperature=0.0).images for s in (1, 2)]
    assert torch.equal(*cold)
    assert model.sample(captions, generator=0, steps=9).windows.shape == (2, 9, 5)


def test_one_step_compiles_whole(tiny, batch):
    model, (images, captions, lengths) = tiny(), batch
    caption, state, noise = (
        model.encode_captions(captions, lengths),
        model.initial_state(3),
        torch.randn(3, 5, dtype=torch.float64),
    )
    compiled = torch.compile(model.step, fullgraph=True, backend="aot_eager")
    (ours, step), (theirs, expected) = (f(caption, state, noise, images) for f in (compiled, model.step))
    torch.testing.assert_close(ours.canvas, theirs.canvas)
    torch.testing.assert_close(step.kl, expected.kl)
    grads = [torch.autograd.grad(s.canvas.sum(), model.decoder.weight_hh)[0] for s in (ours, theirs)]
    torch.testing.assert_close(*grads)


def test_the_whole_bound_compiles(tiny, batch):
    images, captions, lengths = batch
    model, noise = tiny(), torch.randn(3, 2, 5, dtype=torch.float64)
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    ours, theirs = (f(images, captions, lengths, noise=noise) for f in (compiled, model))
    torch.testing.assert_close(ours.loss, theirs.loss)


def test_deepcopy_and_state_dict(tiny, batch):
    images, captions, lengths = batch
    model = tiny()
    twin, fresh = copy.deepcopy(model), AlignDRAW(model.config).double()
    fresh.load_state_dict(model.state_dict())
    losses = [m(images, captions, lengths, generator=0).loss for m in (model, twin, fresh)]
    assert torch.equal(losses[0], losses[1]) and torch.equal(losses[0], losses[2])


def test_an_empty_batch(tiny):
    model = tiny()
    drawing = model.sample(torch.zeros(0, 3, dtype=torch.int64), generator=0)
    assert drawing.images.shape == (0, 2, 9, 7)
    bound = model(torch.zeros(0, 2, 9, 7, dtype=torch.float64), torch.zeros(0, 3, dtype=torch.int64), generator=0)
    assert bound.kl.shape == (0,)


@pytest.mark.parametrize("init", ["paper", "fan_in"])
def test_initialisation(init):
    quick = AlignDRAWConfig.preset("quick").replace(window_span=0.0, read_window="own", canvas_init=-6.0)
    model = AlignDRAW(quick.replace(word_values="states"))
    model.reset_parameters(init)
    assert (model.canvas == -6).all()
    for name, parameter in model.named_parameters():
        if name != "canvas" and (init == "paper" or "window" in name) and parameter.numel() > 1000:
            assert 0.009 < parameter.std() < 0.011
    forget = model.decoder.bias[300:600]
    assert (forget == 1).all() == (init == "fan_in")
    assert model.decoder.weight_hh.std().item() == pytest.approx(0.01 if init == "paper" else 0.7 / 300**0.5, rel=0.05)
    table = AlignDRAW(quick)
    assert quick.word_values == "embeddings"
    table.reset_parameters(init)
    assert table.values.words.std().item() == pytest.approx(0.01 if init == "paper" else 0.7, rel=0.05)
    with pytest.raises(ValueError, match="init must be"):
        model.reset_parameters("none")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda x, y, n: (x[:, :1], y, n),
            r"images must have shape \[B, C, H, W\] = \[3, 2, 9, 7\], got \[3, 1, 9, 7\]",
        ),
        (lambda x, y, n: (x * 255, y, n), r"images must lie in \[0, 1\], got values from"),
        (lambda x, y, n: (x - 0.5, y, n), r"images must lie in \[0, 1\]"),
        (
            lambda x, y, n: (x.index_fill(3, torch.tensor(2), float("nan")), y, n),
            r"images must lie in \[0, 1\], .* nan",
        ),
        (lambda x, y, n: ((x * 255).byte(), y, n), r"images must be floating point .* got uint8: divide"),
        (lambda x, y, n: (x, y + 20, n), r"captions must hold word ids from 0 to 11, got"),
        (lambda x, y, n: (x, y - 20, n), r"captions must hold word ids from 0 to 11, got"),
        (
            lambda x, y, n: (x, y[:, :0], n),
            r"captions must be word ids, int64 \[B, N\] with N of at least 1, got int64 \[3, 0\]",
        ),
        (lambda x, y, n: (x, y.float(), n), r"captions must be word ids, .* got float32 \[3, 6\]"),
        (lambda x, y, n: (x, y, n[:2]), r"lengths must be int64 \[B\] = \[3\], got int64 \[2\]"),
        (lambda x, y, n: (x, y, n - 1), r"lengths must be from 1 to N = 6, got 0 to 5"),
        (lambda x, y, n: (x, y, n + 1), r"lengths must be from 1 to N = 6, got 2 to 7"),
        (lambda x, y, n: (x.to("meta"), y, n), r"images must be on cpu like the model, got meta"),
    ],
)
def test_errors(tiny, batch, change, message):
    with pytest.raises(ValueError, match=message):
        tiny()(*change(*batch))


def test_more_errors(tiny, batch):
    images, captions, lengths = batch
    model = tiny()
    for noise in (torch.randn(3, 4, 6), torch.randn(2, 4, 5), torch.randn(4, 5), torch.randn(3, 0, 5)):
        with pytest.raises(ValueError, match="noise must have"):
            model(images, captions, lengths, noise=noise.double())
    with pytest.raises(ValueError, match="samples must be a whole number of at least 1"):
        model(images, captions, lengths, samples=0)
    with pytest.raises(ValueError, match="temperature must be a finite number of at least 0"):
        model.sample(captions, lengths, temperature=-1.0)
    with pytest.raises(ValueError, match="seed must be a whole number of at least 0"):
        model.sample(captions, lengths, generator=-1)
    with pytest.raises(ValueError, match="released conventions need captions of one length"):
        tiny(conventions="released")(images, captions, lengths)
