"""The model against outputs and gradients of the authors' own code, in float64.

In these files kl, nll and loss are batch means, noise, canvases and prior_* are time-major, names and the order of the
window are the authors'.
"""

from pathlib import Path

import numpy as np
import pytest
import torch

from aligndraw.convert import from_released, to_released

DATA = Path(__file__).parents[1] / "data"
CASES = {"paper-mnist-small": "paper", "paper-coco-small": "paper", "released-mnist-small": "released"}
AUTHORS_WINDOW = [0, 1, 3, 2, 4]


def close(ours, theirs):
    ours, theirs = np.asarray(ours), np.asarray(theirs)
    assert ours.shape == theirs.shape
    return np.abs(ours - theirs).max() / np.abs(theirs).max() <= 1e-9


@pytest.fixture(params=CASES)
def golden(request):
    with np.load(DATA / f"{request.param}.npz") as file:
        arrays = dict(file)
    parameters = {k.removeprefix("param/"): v for k, v in arrays.items() if k.startswith("param/")}
    model = from_released(parameters, CASES[request.param], steps=len(arrays["eps"]))
    return model, arrays


def batch(model, arrays):
    config = model.config
    images = torch.from_numpy(arrays["x"]).view(-1, config.channels, *config.image_size)
    return images, torch.from_numpy(arrays["y"]).long(), torch.from_numpy(arrays["eps"]).transpose(0, 1)


def test_bound(golden):
    model, arrays = golden
    images, captions, noise = batch(model, arrays)
    bound = model(images, captions, noise=noise)
    assert close(bound.kl.mean().detach(), arrays["kl"])
    assert close(bound.nll.mean().detach(), arrays["nll"])
    assert close(bound.loss.detach(), arrays["loss"])


def test_every_gradient(golden):
    model, arrays = golden
    images, captions, noise = batch(model, arrays)
    model(images, captions, noise=noise).loss.backward()
    grads = to_released(model, grads=True)
    names = [k for k in arrays if k.startswith("grad/")]
    assert len(names) == 33
    assert [k for k in names if not close(grads[k.removeprefix("grad/")], arrays[k])] == []


def test_every_step(golden):
    """Canvases, and the windows as their linear maps give them, step by step."""
    model, arrays = golden
    images, captions, noise = batch(model, arrays)
    caption, state = model.encode_captions(captions), model.initial_state(len(images))
    for t, epsilon in enumerate(noise.unbind(1)):
        read_window = model.read.window(state.decoder[0])
        state, _ = model.step(caption, state, epsilon, images)
        write_window = model.write.window(state.decoder[0])
        assert close(state.canvas.flatten(1).detach(), arrays["canvas"][t])
        assert close(read_window.detach()[:, AUTHORS_WINDOW], arrays["read_params"][t])
        assert close(write_window.detach()[:, AUTHORS_WINDOW], arrays["write_params"][t])


def test_prior_samples(golden):
    model, arrays = golden
    _, captions, noise = batch(model, arrays)
    drawing = model.sample(captions, noise=noise)
    assert close(drawing.canvases.transpose(0, 1).flatten(2), arrays["prior_canvas"])
    assert close(drawing.weights.transpose(0, 1), arrays["prior_alpha"])
    caption, state = model.encode_captions(captions), model.initial_state(len(captions), encode=False)
    for t, epsilon in enumerate(noise.unbind(1)):
        state, _ = model.step(caption, state, epsilon)
        assert close(state.mu.detach(), arrays["prior_mu"][t])  # that of the next latent
        assert close(state.log_sigma.detach(), arrays["prior_logsigma"][t])
        window = model.write.window(state.decoder[0])
        assert close(window.detach()[:, AUTHORS_WINDOW], arrays["prior_write_params"][t])


def test_round_trip(golden):
    model, arrays = golden
    for name, array in to_released(model).items():
        np.testing.assert_array_equal(array, arrays[f"param/{name}"])
