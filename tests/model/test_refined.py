"""A drawing model that is refined inside the bound: likelihood, gradient, and that it begins as the two stages."""

import math

import pytest
import torch

from aligndraw import AlignDRAW, AlignDRAWConfig
from aligndraw.config import RefinedConfig
from aligndraw.data import Scenes
from aligndraw.data.scene_captions import VOCABULARY
from aligndraw.evaluation.bound import estimate_bound
from aligndraw.evaluation.retrieval import mean_caption
from aligndraw.lapgan.captioned import CaptionedSharpener
from aligndraw.lapgan.config import SharpenerConfig
from aligndraw.lapgan.sharpen import Sharpener
from aligndraw.model.refined import RefinedDRAW
from aligndraw.model.saved import load_model, save_model
from aligndraw.text.sentences import CaptionState

TINY = AlignDRAWConfig(
    image_size=(32, 32), channels=3, vocabulary_size=len(VOCABULARY),
    steps=2, encoder_units=6, decoder_units=5, latent_units=3, language_units=4, align_units=4,
)  # fmt: skip
EXAMPLES = Scenes("test").epoch(0, size=6)


@pytest.fixture
def parts(request):
    """A drawing model, and a sharpener that makes pixels of 0 and of 1."""
    torch.manual_seed(0)
    model = AlignDRAW(getattr(request, "param", TINY))
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, 0, 0.3)
    sharpener = Sharpener(SharpenerConfig((32, 32), 3, sentence_units=8, hidden_channels=3))
    with torch.no_grad():
        sharpener.generator.convolutions[-1].weight *= 20
    return model, sharpener


def the_other_likelihood():
    return [TINY, TINY.replace(likelihood="gaussian", observation_variance=0.5), TINY.replace(align=False)]


@pytest.mark.parametrize("parts", the_other_likelihood(), indirect=True)
def test_it_begins_as_the_two_stages(parts):
    """The bound, its parts and the pictures are those of the model with the sharpener behind it, for the same ε."""
    model, sharpener = parts
    refined = RefinedDRAW.of(model, sharpener.generator, epsilon=1e-4)
    sharpen = CaptionedSharpener(sharpener, CaptionState(model.language, Scenes.vocabulary))
    options = {"samples": 2, "seed": 3, "batch_size": 4}
    ours = estimate_bound(refined, EXAMPLES, **options)
    theirs = estimate_bound(model, EXAMPLES, **options, sharpen=sharpen, epsilon=1e-4)
    assert ours.nll.mean == pytest.approx(theirs.nll.mean, rel=1e-5)
    assert ours.importance.mean == pytest.approx(theirs.importance.mean, rel=1e-5)
    assert ours.kl == theirs.kl
    ids, lengths = Scenes.vocabulary.encode_batch(EXAMPLES.captions())
    blurry = model.sample(ids, lengths, generator=5).images
    sharp = sharpen(EXAMPLES.captions(), blurry).clamp(1e-4, 1 - 1e-4)
    assert (sharp - blurry).abs().max() > 0.2 and sharp.max() > 0.999
    torch.testing.assert_close(refined.sample(ids, lengths, generator=5).images.detach(), sharp, rtol=0, atol=1e-5)


def test_the_parts_are_copied(parts):
    model, sharpener = parts
    refined = RefinedDRAW.of(model, sharpener.generator)
    before = {name: p.clone() for name, p in refined.state_dict().items()}
    with torch.no_grad():
        for parameter in (*model.parameters(), *sharpener.parameters()):
            parameter.zero_()
    assert all(torch.equal(before[name], p) for name, p in refined.state_dict().items())


def test_what_is_clipped_can_come_back(parts):
    """Outside [ε, 1 − ε] the gradient is kept where a step of descent leads back inside, and only there."""
    generator = parts[1].generator
    with torch.no_grad():
        for parameter in generator.parameters():
            parameter.zero_()  # residuals are 0
    refined = RefinedDRAW.of(parts[0], generator, epsilon=0.1)
    x = torch.full((1, 3, 32, 32), 0.5)
    x[0, 0, 0, :6] = torch.tensor([-1.0, -1.0, 0.5, 0.5, 2.0, 2.0])
    x.requires_grad_()
    clipped = refined.refine(x, torch.zeros(1, 8))
    torch.testing.assert_close(clipped[0, 0, 0, :6].detach(), torch.tensor([0.1, 0.1, 0.5, 0.5, 0.9, 0.9]))
    upstream = torch.tensor([1.0, -1.0] * 16).expand_as(clipped)
    (gradient,) = torch.autograd.grad(clipped, x, upstream)
    assert gradient[0, 0, 0, :6].tolist() == [0, -1, 1, -1, 1, 0]


def test_both_parts_learn_from_the_bound(parts):
    refined = RefinedDRAW.of(parts[0], parts[1].generator, epsilon=0.01)
    images = torch.from_numpy(EXAMPLES.pictures(slice(None))).float() / 255
    ids, lengths = Scenes.vocabulary.encode_batch(EXAMPLES.captions())
    optimizer = torch.optim.Adam(refined.parameters(), lr=1e-2)
    losses = []
    for _ in range(30):
        optimizer.zero_grad()
        loss = refined(images, ids, lengths, generator=0).loss
        loss.backward()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in refined.parameters())
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] - 100


def test_a_folder(parts, tmp_path):
    refined = RefinedDRAW.of(parts[0], parts[1].generator)
    assert refined.config == RefinedConfig(**vars(TINY), hidden_channels=3)
    assert refined.config.title == "end-to-end refined alignDRAW"
    save_model(refined, Scenes.vocabulary, tmp_path)
    loaded, *_ = load_model(tmp_path)
    assert type(loaded) is RefinedDRAW and loaded.config == refined.config
    ids, lengths = Scenes.vocabulary.encode_batch(EXAMPLES.captions())
    assert torch.equal(*(m.sample(ids, lengths, generator=1).images for m in (refined, loaded)))


def test_retrieval_refines_with_the_mean_sentence(parts):
    """ȳ stands for the mean of the words where they are attended to, and for the mean sentence where it refines."""
    model = parts[0]
    mean = mean_caption(model, EXAMPLES, batch_size=4)
    words, sentences = [], []
    for caption in EXAMPLES.captions():
        ids, lengths = Scenes.vocabulary.encode_batch([caption])
        h_lang, last = model.language(ids, lengths)
        words.append(h_lang[0].mean(0))
        sentences.append(last[0])
    torch.testing.assert_close(mean.words[0, 0], torch.stack(words).mean(0))
    torch.testing.assert_close(mean.sentence[0], torch.stack(sentences).mean(0))


def test_errors(parts):
    model, sharpener = parts
    other = Sharpener(SharpenerConfig((32, 32), 3, sentence_units=9, hidden_channels=3))
    with pytest.raises(ValueError, match=r"generator must have sentence.0.weight of shape \[1024, 8\] .* \[1024, 9\]"):
        RefinedDRAW.of(model, other.generator)
    for epsilon in (0.0, 0.5, math.nan):
        with pytest.raises(ValueError, match="epsilon must be (above 0 and below 0.5|finite)"):
            RefinedDRAW.of(model, sharpener.generator, epsilon)
