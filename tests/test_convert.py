"""What the converter refuses; what it preserves is in tests/model/test_goldens.py."""

import numpy as np
import pytest
import torch

from aligndraw import AlignDRAW, AlignDRAWConfig
from aligndraw.convert import from_released, to_released

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


def test_no_gradients_yet(arrays):
    with pytest.raises(ValueError, match=r"has no gradient: call loss.backward\(\) first"):
        to_released(AlignDRAW(CONFIG), grads=True)


def test_no_align(arrays):
    with pytest.raises(ValueError, match="with align; this one has none"):
        to_released(AlignDRAW(CONFIG.replace(align=False)))
