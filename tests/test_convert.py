"""What the converter refuses; what it preserves is in tests/model/test_goldens.py."""

import os

import numpy as np
import pytest
import torch

from aligndraw import AlignDRAW, AlignDRAWConfig
from aligndraw.config import RefinedConfig
from aligndraw.convert import from_released, sharpener_from_released, to_released
from aligndraw.lapgan.config import SharpenerConfig
from aligndraw.model.refined import RefinedDRAW

CONFIG = AlignDRAWConfig(
    image_size=(6, 10),
    steps=3,
    read_size=2,
    write_size=3,
    encoder_units=7,
    decoder_units=6,
    latent_units=4,
    language_units=5,
    align_units=8,
    vocabulary_size=9,
)


@pytest.fixture
def arrays():
    torch.manual_seed(0)
    return to_released(AlignDRAW(CONFIG))


def test_sizes_are_read_off_the_arrays(arrays):
    model = from_released(arrays, steps=3, image_size=(6, 10))
    assert model.config == CONFIG
    assert model.canvas.dtype == torch.float32
    for name, array in to_released(model).items():
        np.testing.assert_array_equal(array, arrays[name])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda a: a.pop("c0"), "not the 33 released parameters: missing c0"),
        (lambda a: a.update(b_z=np.zeros(3)), "not the 33 released parameters: unknown b_z"),
        (
            lambda a: a.update(b_henc=np.zeros(9)),
            r"b_henc must have shape \[28\] to fit the others, got \[9\]",
        ),
        (lambda a: a.update(b_mu=np.zeros((2, 2))), r"b_mu must have 1 dimension, got \[2, 2\]"),
        (lambda a: a.update(v_align=np.zeros(3)), r"must have shape .* to fit the others"),
        (lambda a: a.update(c0=np.zeros((1, 61))), "c0 has 61 pixels .* give image_size"),
    ],
)
def test_errors(arrays, change, message):
    change(arrays)
    with pytest.raises(ValueError, match=message):
        from_released(arrays, steps=3, image_size=(6, 10))


def test_no_model_is_made_before_the_arrays_fit(arrays, monkeypatch):
    """An array of no elements can tell any size."""
    made = []
    monkeypatch.setattr(
        "aligndraw.convert.AlignDRAW", lambda config: made.append(torch.empty(0).device.type) or AlignDRAW(config)
    )
    from_released(arrays, steps=3, image_size=(6, 10))
    assert made == ["meta", "cpu"]
    arrays["W_henc_henc"] = np.zeros((50, 0))
    with pytest.raises(ValueError, match=r"must have shape .* to fit the others"):
        from_released(arrays, steps=3, image_size=(6, 10))
    assert made == ["meta", "cpu", "meta"]


def test_an_hdf5_file(arrays, tmp_path, monkeypatch):
    """As the authors' files are; one that would take far more memory than it has bytes is refused."""
    h5py = pytest.importorskip("h5py")
    monkeypatch.setattr("aligndraw.files.FREE_BYTES", 4096)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        for name, array in arrays.items():
            file[name] = array
    with h5py.File(tmp_path / "a.h5") as file:
        model = from_released(file, steps=3, image_size=(6, 10))
    assert torch.equal(model.canvas, from_released(arrays, steps=3, image_size=(6, 10)).canvas)
    with h5py.File(tmp_path / "a.h5", "a") as file:
        del file["b_mu"]
        file.create_dataset("b_mu", (10**7,), "f4", chunks=(1000,))
    with h5py.File(tmp_path / "a.h5") as file, pytest.raises(ValueError, match="b_mu would take 40,000,000 b"):
        from_released(file, steps=3, image_size=(6, 10))


def test_no_gradients_yet(arrays):
    with pytest.raises(ValueError, match=r"has no gradient: call loss.backward\(\) first"):
        to_released(AlignDRAW(CONFIG), grads=True)


@pytest.mark.parametrize(("change", "message"), [
    ({"align": False}, "align True, not False"),
    ({"word_values": "embeddings"}, "word_values 'states', not 'embeddings'"),
    ({"word_keys": "embeddings"}, "word_keys 'states', not 'embeddings'"),
    ({"attention_scale": 1.7}, "attention_scale 1.0, not 1.7"),
    ({"attention_query": "step"}, "attention_query 'state', not 'step'"),
    ({"window_span": 4.0}, "window_span 0.0, not 4.0"),
    ({"read_window": "write"}, "read_window 'own', not 'write'"),
    ({"tints": 2}, "tints 0, not 2"),
    ({"opacity": True}, "opacity False, not True"),
    ({"shape_units": 2}, "shape_units 0, not 2"),
])  # fmt: skip
def test_parts_that_the_authors_model_has_not(change, message):
    """They have no released parameter, and were left out without a word."""
    with pytest.raises(ValueError, match=f"describe a model with {message}"):
        to_released(AlignDRAW(CONFIG.replace(**change)))


def test_a_refined_model_is_none_of_theirs():
    config = RefinedConfig(**{**vars(CONFIG), "image_size": (12, 12)}, hidden_channels=4)
    with pytest.raises(ValueError, match="kind 'draw', not 'refined-draw'"):
        to_released(RefinedDRAW(config))


@pytest.fixture
def released_sharpener():
    rng = np.random.default_rng(0)

    def normal(*shape, scale=0.2):
        return rng.normal(0, scale, shape)

    return {
        "skipthought2image": normal(5, 81),
        "skipthought2image-bias": normal(81),
        "W_conv0": normal(4, 5, 7, 7),
        "b_conv0": normal(4),
        "W_conv1": normal(4, 4, 7, 7),
        "b_conv1": normal(4),
        "W_conv2": normal(3, 4, 5, 5, scale=0.01),
        "b_conv2": normal(3),
    }


def true_convolution(planes, kernels):
    """y[o, i, j] = Σ x[c, i + m − u, j + m − v] k[o, c, u, v] at the size of the input, zeros around it."""
    outputs, _, side, _ = kernels.shape
    m = side // 2
    padded = np.pad(planes, ((0, 0), (m, m), (m, m)))
    height, width = planes.shape[1:]
    result = np.zeros((outputs, height, width))
    for u, v in np.ndindex(side, side):
        shifted = padded[:, 2 * m - u : 2 * m - u + height, 2 * m - v : 2 * m - v + width]
        result += np.einsum("oc,chw->ohw", kernels[:, :, u, v], shifted)
    return result


def test_the_released_sharpener(released_sharpener):
    """The authors' program, which flips each kernel and then convolves, in float64."""
    rng = np.random.default_rng(1)
    blurry, sentence = rng.random((3, 9, 9)), rng.normal(0, 1, 5)
    a = released_sharpener
    plane = np.maximum(sentence @ a["skipthought2image"] + a["skipthought2image-bias"], 0).reshape(1, 9, 9)
    planes = np.concatenate([np.zeros((1, 9, 9)), plane, blurry])
    for i in range(3):
        planes = true_convolution(planes, a[f"W_conv{i}"][:, :, ::-1, ::-1]) + a[f"b_conv{i}"][:, None, None]
        if i < 2:
            planes = np.maximum(planes, 0)
    assert np.abs(planes).max() > 0.1
    assert sharpener_from_released(a).notes == {}
    sharpener = sharpener_from_released(a, sentences="combined-skip:skip")
    specification = f"combined-skip:{os.path.abspath('skip')}"
    assert sharpener.notes["sentences"]["specification"] == specification  # what commands open for it
    assert sharpener.config == SharpenerConfig((9, 9), 3, 5, 4)
    sharp = sharpener(torch.from_numpy(blurry)[None], torch.from_numpy(sentence)[None])
    np.testing.assert_allclose(sharp.detach()[0], np.clip(blurry + planes, 0, 1), rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda a: a.pop("b_conv1"), "not the 8 released parameters: missing b_conv1"),
        (lambda a: a.update(W_conv2=np.zeros((3, 4, 7, 7))), r"W_conv2 must have shape \[3, 4, 5, 5\] to fit"),
        (lambda a: a.update({"skipthought2image-bias": np.zeros(80)}), r"must have shape \[81\] to fit the others"),
        (lambda a: a.update(skipthought2image=np.zeros((5, 99))), "99 pixels, which is no square: give image_size"),
        (lambda a: a.update(W_conv0=np.zeros(3)), "must have 4 and 2 dimensions"),
    ],
)
def test_what_is_no_released_sharpener(released_sharpener, change, message):
    change(released_sharpener)
    with pytest.raises(ValueError, match=message):
        sharpener_from_released(released_sharpener)
