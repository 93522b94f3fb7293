"""Calls of a pipeline, from Python."""

import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from aligndraw import Pipeline
from aligndraw.config import FullyConnectedVAEConfig
from aligndraw.data import VOCABULARY
from aligndraw.model import build_model
from aligndraw.noise import stream
from aligndraw.pipelines import CaptionWarning
from aligndraw.text import CaptionError, Vocabulary, WordPairs

SEVEN, TWO = "the digit seven is at the top left of the image", "7 is on the left"


def images(pipeline, prompt, n=1, **options):
    """Pictures as a tensor, of seed 0 unless another noise is given."""
    noise = {} if {"seed", "generator"} & options.keys() else {"seed": 0}
    return pipeline(prompt, num_images_per_prompt=n, output_type="pt", **noise, **options).images


def test_captions_come_one_after_the_other(pipeline):
    """Also of different lengths: each as if it were drawn alone."""
    both = images(pipeline, [SEVEN, TWO], 3)
    assert both.shape == (6, 1, 60, 60)
    for i, caption in enumerate((SEVEN, TWO)):
        torch.testing.assert_close(both[3 * i : 3 * i + 3], images(pipeline, caption, 3))
    assert (both[:3] - both[3:]).abs().amax((1, 2, 3)).min() > 1e-3


def test_picture_i_depends_on_the_seed_and_i_alone(pipeline):
    five, two = (images(pipeline, SEVEN, n, seed=4) for n in (5, 2))
    torch.testing.assert_close(five[:2], two)
    distances = torch.cdist(five.flatten(1), five.flatten(1))
    assert (distances + 9 * torch.eye(5)).min() > 0.1
    assert (images(pipeline, SEVEN, 5, seed=5) - five).abs().amax((1, 2, 3)).min() > 1e-3


def test_two_captions_share_their_noise(pipeline):
    same = images(pipeline, [SEVEN, SEVEN], 2)
    torch.testing.assert_close(same[:2], same[2:])


def test_without_a_seed_the_result_tells_one(pipeline):
    """PyTorch's generator draws it, so that `torch.manual_seed` makes a program repeat itself."""
    torch.manual_seed(1)
    first, second = pipeline(SEVEN, output_type="pt"), pipeline(SEVEN, output_type="pt")
    assert first.seed != second.seed and not torch.equal(first.images, second.images)
    torch.testing.assert_close(images(pipeline, SEVEN, seed=second.seed), second.images, rtol=0, atol=0)
    torch.manual_seed(1)
    assert pipeline(SEVEN).seed == first.seed


def test_generators_take_the_place_of_a_seed(pipeline):
    """A list gives each picture its own, as a seed does; one gives all pictures their noise in turn."""
    listed = images(pipeline, [SEVEN, TWO], 2, generator=[stream(4, i) for i in (0, 1, 0, 1)])
    torch.testing.assert_close(listed, images(pipeline, [SEVEN, TWO], 2, seed=4))
    three, two = (images(pipeline, SEVEN, n, generator=torch.Generator().manual_seed(3)) for n in (3, 2))
    torch.testing.assert_close(three[:2], two)
    assert (three[0] - three[1]).abs().max() > 0.1
    generator = torch.Generator().manual_seed(3)
    one, other = (images(pipeline, SEVEN, generator=generator) for _ in range(2))
    torch.testing.assert_close(torch.cat([one, other]), two)
    assert pipeline(SEVEN, generator=generator).seed is None


def test_steps_and_temperature(pipeline):
    assert pipeline(SEVEN, steps=5, seed=0).samples.windows.shape == (1, 5, 5)
    cold = images(pipeline, SEVEN, 2, temperature=0.0)
    assert torch.equal(cold[0], cold[1])


def test_the_forms_of_the_pictures(pipeline, scenes):
    """Lists of images in their own size, tensors and arrays of the same pictures, in grey and in colour."""
    for pipe, caption, channels, mode in ((pipeline, SEVEN, 1, "L"), (scenes, "a red bus on the road", 3, "RGB")):
        forms = {form: pipe(caption, num_images_per_prompt=2, seed=0, output_type=form) for form in ("pil", "pt", "np")}
        tensor, array, pictures = (forms[form].images for form in ("pt", "np", "pil"))
        _, height, width = pipe.model.canvas.shape
        assert tensor.dtype == torch.float32 and tensor.shape == (2, channels, height, width)
        np.testing.assert_array_equal(array, tensor.permute(0, 2, 3, 1).numpy())
        assert isinstance(pictures, list) and all(isinstance(picture, Image.Image) for picture in pictures)
        assert [(picture.mode, picture.size) for picture in pictures] == [(mode, (width, height))] * 2
        shown = np.stack([np.asarray(picture).reshape(height, width, channels) for picture in pictures])
        np.testing.assert_array_equal(shown, np.rint(array * 255).astype(np.uint8))
        assert len(pipe(caption).images) == 1 and isinstance(pipe(caption).images[0], Image.Image)


def test_attention_where_it_is_asked_for(pipeline):
    drawing = pipeline([SEVEN, TWO], return_attention=True, seed=0)
    assert drawing.attention.shape == (2, 3, 12) and drawing.words[1] == "7 is on the left .".split()
    torch.testing.assert_close(drawing.attention.sum(2), torch.ones(2, 3))
    assert (drawing.attention[1, :, 6:] == 0).all()
    assert pipeline(SEVEN, seed=0).attention is None


def test_a_callback_sees_every_step_and_changes_nothing(pipeline):
    seen = []

    def follow(pipe, step, timestep, values):
        assert pipe is pipeline and values["window"].shape == (2, 5) and values["attention"].shape == (2, 12)
        with pytest.raises(TypeError):
            values["canvas"] = 0
        seen.append((step, timestep, values["canvas"]))

    drawn = pipeline(SEVEN, num_images_per_prompt=2, seed=0, output_type="pt", callback_on_step_end=follow)
    assert [entry[:2] for entry in seen] == [(0, 2), (1, 1), (2, 0)]
    assert torch.equal(drawn.images, images(pipeline, SEVEN, 2))
    torch.testing.assert_close(seen[-1][2], drawn.images)
    assert (seen[0][2] - seen[1][2]).abs().max() > 1e-3


def test_a_callback_that_writes_into_its_values_changes_nothing(pipeline):
    def clear(pipe, step, timestep, values):
        for value in values.values():
            value.zero_()

    plain = pipeline(SEVEN, seed=0, return_attention=True)
    drawn = pipeline(SEVEN, seed=0, return_attention=True, callback_on_step_end=clear)
    assert plain.attention.any() and torch.equal(drawn.attention, plain.attention)
    for name in ("images", "windows", "weights", "canvases"):
        assert torch.equal(getattr(drawn.samples, name), getattr(plain.samples, name)), name


def test_whole_numbers_of_other_libraries(pipeline):
    """They are what they are worth: tensors and NumPy's numbers."""
    drawing = pipeline(SEVEN, seed=3, num_images_per_prompt=2, steps=2)
    for number in (torch.tensor, np.int64):
        other = pipeline(SEVEN, seed=number(3), num_images_per_prompt=number(2), steps=number(2))
        assert (type(other.seed), other.seed, type(other.steps)) == (int, 3, int)
        assert torch.equal(other.samples.images, drawing.samples.images)


def test_a_callback_is_checked_before_drawing(pipeline, monkeypatch):
    monkeypatch.setattr(pipeline.model, "sample", None)
    with pytest.raises(ValueError, match="^callback_on_step_end must be callable, got 3$"):
        pipeline(SEVEN, callback_on_step_end=3)


def test_an_error_of_a_callback_ends_the_call(pipeline):
    def stop(*_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pipeline(SEVEN, callback_on_step_end=stop)


GENERATORS = r"generator must be a torch.Generator, or a list with one per picture, 2, got"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_images_per_prompt": 0}, "num_images_per_prompt must be a whole number of at least 1, got 0"),
        ({"seed": -1}, r"seed must be a whole number of at least 0 and below 2\^63, got -1"),
        ({"temperature": -1.0}, "temperature must be a finite number of at least 0, got -1.0"),
        ({"steps": 0}, "steps must be a whole number of at least 1, got 0"),
        ({"output_type": "latent"}, "output_type must be one of pil, pt, np, got 'latent'"),
        ({"output_type": None}, "output_type must be one of pil, pt, np, got None"),
        ({"prompt": []}, "at least one caption"),
        ({"prompt": ""}, "caption must hold at least one word"),
        ({"prompt": [SEVEN, 7]}, "caption must be a string, got int"),
        ({"prompt": None}, "captions must be a list of strings, got NoneType"),
        ({"prompt": "a bus"}, "unknown words"),
        ({"prompt": "the lefd"}, 'nearest: "left"'),
        ({"seed": 1, "generator": torch.Generator()}, "seed must be left out where a generator is given, got 1"),
        ({"generator": [torch.Generator()], "num_images_per_prompt": 2}, f"{GENERATORS} a list of 1"),
        ({"generator": [0, 1], "num_images_per_prompt": 2}, f"{GENERATORS} a list with int"),
        ({"generator": [None] * 2, "num_images_per_prompt": 2}, f"{GENERATORS} a list with NoneType"),
        ({"return_attention": "no"}, "return_attention must be True or False, got 'no'"),
        ({"seed": torch.tensor(3.0)}, r"seed must be a whole number of at least 0 and below 2\^63, got tensor"),
        ({"prompt": SEVEN.encode()}, "caption must be a string, got bytes"),
        ({"prompt": Path(SEVEN)}, "caption must be a string, got PosixPath"),
        ({"generator": 7, "num_images_per_prompt": 2}, f"{GENERATORS} int"),
    ],
)
def test_refused_arguments(pipeline, options, message):
    with pytest.raises(ValueError, match=message):
        pipeline(**{"prompt": SEVEN, **options})


def test_unreadable_captions_are_caption_errors(pipeline):
    for prompt, unknown in (("the lefd", ("lefd",)), ("", ()), (None, ())):
        with pytest.raises(CaptionError) as raised:
            pipeline(prompt)
        assert raised.value.unknown == unknown


def test_what_a_model_lacks(network):
    """The same words as on the command line, behind the name of the argument."""
    noalign = Pipeline(network(align=False), VOCABULARY)
    with pytest.raises(ValueError, match="return_attention needs a model that attends to words, got a noalignDRAW"):
        noalign(SEVEN, return_attention=True)
    config = FullyConnectedVAEConfig(hidden_units=4, latent_units=3, language_units=3, vocabulary_size=22)
    vae = Pipeline(build_model(config), VOCABULARY)
    for name, value in {"steps": 1, "callback_on_step_end": print}.items():
        with pytest.raises(ValueError, match=f"{name} needs a model that draws in steps, got a {config.title}"):
            vae(SEVEN, **{name: value})


def test_captions_of_the_released_conventions(network):
    """Their language model mixes the captions of a batch: copies of one are fine, different ones are refused."""
    pipeline = Pipeline(network(conventions="released"), VOCABULARY)
    torch.testing.assert_close(images(pipeline, SEVEN, 3)[:1], images(pipeline, SEVEN))
    pipeline([SEVEN, SEVEN.replace("seven", "7")])
    for other in (SEVEN.replace("seven", "one"), TWO):
        with pytest.raises(ValueError, match="got 2 captions: draw one at a time"):
            pipeline([SEVEN, other])


def test_padding_is_no_word(network):
    """Word 0 also fills the shorter captions up: "a a" is another caption than "a"."""
    pipeline = Pipeline(network(conventions="released", vocabulary_size=22), Vocabulary(("a", "b")))
    with pytest.raises(ValueError, match="draw one at a time"):
        pipeline(["a", "a a"])


def test_a_caption_unlike_those_of_training_warns(pipeline):
    """ "seven" alone drew something, without a word."""
    pairs = WordPairs.of([f"the digit {digit} is at the top left of the image .".split() for digit in range(10)])
    pipeline.notes = {"word_pairs": pairs.to_dict()}
    with pytest.warns(CaptionWarning, match='^caption "seven" is worded .* of which none begins with "7"$') as told:
        pipeline(["seven", SEVEN, "seven"])
    assert len(told) == 1 and told[0].filename == __file__
    with pytest.warns(CaptionWarning, match='none has "is" after "image"'):
        pipeline("the image is of the digit")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pipeline(SEVEN)
        pipeline("the digit 7 is at the left of the image")  # one new pair in twelve


def test_a_model_that_knows_no_pairs_is_silent(pipeline):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pipeline("seven")
    assert pipeline.remark("seven") == ""


def test_to_a_device(pipeline):
    assert pipeline.to("cpu") is pipeline and pipeline.to(torch.device("cpu")).device == torch.device("cpu")
    for wrong in ("tpu", "cpu:x", "", "meta"):
        with pytest.raises(ValueError, match=f"^device must be cpu or cuda, got '{wrong}'$"):
            pipeline.to(wrong)
        with pytest.raises(ValueError, match="^device must be cpu or cuda"):
            Pipeline.from_pretrained("mnist", wrong)
    if not torch.cuda.is_available():
        with pytest.raises(ValueError, match="device must be a device of this machine, got 'cuda:1': there is no CUDA"):
            pipeline.to("cuda:1")


def test_a_sharpener(scenes, sharpener):
    """It sharpens the pictures; the canvases of the steps stay as they were drawn."""
    caption = "a red bus on the road"
    plain, sharp = scenes(caption, seed=0), scenes.with_sharpener(sharpener)(caption, seed=0)
    assert scenes.sharpen is None
    assert np.abs(plain.arrays() - sharp.arrays()).max() > 0.1
    torch.testing.assert_close(plain.samples.canvases, sharp.samples.canvases)


def test_one_line_about_it(pipeline, scenes, sharpener):
    assert repr(pipeline) == "<Pipeline: tiny, alignDRAW, cpu>"
    assert repr(scenes.with_sharpener(sharpener)) == "<Pipeline: tiny scenes, alignDRAW, sharpened, cpu>"


def test_a_sharpener_for_other_pictures(pipeline, sharpener):
    with pytest.raises(ValueError, match="sharpener"):
        pipeline.with_sharpener(sharpener)


def test_unknown_words_become_one_that_the_vocabulary_has(network):
    """With a warning that names them; where it has none, they are refused."""
    pipeline = Pipeline(network(vocabulary_size=3), Vocabulary(("[UNK]", "a", "dog")))
    with pytest.warns(CaptionWarning, match=r'^\[UNK\] stands for the unknown word "cat" in caption "a cat"; ') as told:
        drawn = images(pipeline, ["a cat", "a dog", "a cat"])
    assert len(told) == 1
    with pytest.warns(CaptionWarning):
        assert torch.equal(drawn, images(pipeline, ["a cow", "a dog", "a cow"]))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        images(pipeline, "a dog")
    with pytest.raises(CaptionError, match='unknown word "cat"'):
        images(Pipeline(network(vocabulary_size=2), Vocabulary(("a", "dog"))), "a cat")
