"""Training, against the same training written a second time in plain PyTorch.

The second model shares no code with the package: one-hot words, filterbanks and LSTM written out, the update rule on a
list of tensors. Both see the same digits, captions and noise.

    python tests/training/test_follows_plain.py [updates]

runs both at full size with the paper's recipe, in turns, and prints the two curves.
"""

import sys

import pytest
import torch

from aligndraw import AlignDRAW, AlignDRAWConfig, TrainingConfig
from aligndraw.convert import to_released
from aligndraw.data import MNISTCaptions, load_digits, to_tensors
from aligndraw.noise import stream
from aligndraw.training import Trainer

CLIP, DECAY, EPSILON = 10.0, 0.9, 1e-6


class Plain:
    """alignDRAW as the paper and the DRAW paper write it, over the authors' 33 arrays."""

    def __init__(self, model):
        self.w = {k: torch.from_numpy(v).to(model.canvas.dtype).requires_grad_() for k, v in to_released(model).items()}
        self.v = {k: torch.zeros_like(p) for k, p in self.w.items()}
        self.size = model.config.image_size

    def lstm(self, gates, c):
        i, f, g, o = gates.split(gates.shape[1] // 4, 1)
        c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
        return torch.sigmoid(o) * torch.tanh(c), c

    def read_caption(self, one_hot, suffix, order):
        w, rev = self.w, suffix
        matrix = w["W_yRev_hLangEncRev" if rev else "W_y_hLangEnc"]
        hidden = w["W_hLangEncRev_hLangEncRev" if rev else "W_hLangEnc_hLangEnc"]
        bias = w["b_hLangEncRev" if rev else "b_hLangEnc"]
        h = w["h0_lang"].expand(len(one_hot), -1)
        c = torch.zeros_like(h)
        states = {}
        for i in order:
            h, c = self.lstm(one_hot[:, i] @ matrix + h @ hidden + bias, c)
            states[i] = h
        return torch.stack([states[i] for i in sorted(states)], 1)

    def filters(self, five, count):
        (height, width) = self.size
        gx, gy, log_delta, log_var, log_gamma = five.split(1, 1)
        delta = (max(height, width) - 1) / (count - 1) * log_delta.exp()
        banks = []
        for g, length in ((gy, height), (gx, width)):
            mu = (length + 1) / 2 * (g + 1) + (torch.arange(1, count + 1) - count / 2 - 0.5) * delta
            a = torch.arange(1, length + 1)
            f = torch.exp(-((a[None, None] - mu[:, :, None]) ** 2) / (2 * log_var.exp()[:, :, None]))
            banks.append(f / (f.sum(2, keepdim=True) + 1e-4))
        return (*banks, log_gamma.exp()[:, :, None])

    def bound(self, x, ids, noise):
        w, batch = self.w, len(x)
        one_hot = torch.nn.functional.one_hot(ids, w["W_y_hLangEnc"].shape[0]).to(x.dtype)
        count = ids.shape[1]
        words = torch.cat(
            [
                self.read_caption(one_hot, False, range(count)),
                self.read_caption(one_hot, True, range(count - 1, -1, -1)),
            ],
            2,
        )
        h_dec, h_enc = w["h0_dec"].expand(batch, -1), w["h0_enc"].expand(batch, -1)
        c_dec, c_enc = torch.zeros_like(h_dec), torch.zeros_like(h_enc)
        canvas = w["c0"].view(1, *self.size).expand(batch, -1, -1)
        patch = int(w["b_c"].shape[0] ** 0.5)
        glimpse = int(((w["W_inp_henc"].shape[0] - h_dec.shape[1]) / 2) ** 0.5)
        mu_p = log_sigma_p = torch.zeros_like(noise[:, 0])
        kl = 0
        for t in range(noise.shape[1]):
            error = x - torch.sigmoid(canvas)
            fy, fx, gamma = self.filters(h_dec @ w["W_hdec_read_attent"] + w["b_read_attent"], glimpse)
            seen = [(gamma * (fy @ picture @ fx.transpose(1, 2))).flatten(1) for picture in (x, error)]
            inputs = torch.cat([*seen, h_dec], 1)
            h_enc, c_enc = self.lstm(inputs @ w["W_inp_henc"] + h_enc @ w["W_henc_henc"] + w["b_henc"], c_enc)
            mu = h_enc @ w["W_henc_mu"] + w["b_mu"]
            log_sigma = 0.5 * (h_enc @ w["W_henc_logsigma"] + w["b_logsigma"])
            z = mu + log_sigma.exp() * noise[:, t]
            ratio = ((mu - mu_p) ** 2 + (2 * log_sigma).exp()) / (2 * log_sigma_p).exp()
            kl = kl + 0.5 * (ratio - 1 - 2 * log_sigma + 2 * log_sigma_p).sum(1)
            hidden = torch.tanh(words @ w["W_lang_align"] + (h_dec @ w["W_hdec_align"] + w["b_align"])[:, None])
            alpha = torch.softmax(hidden @ w["v_align"], 1)
            context = (alpha[:, :, None] * words).sum(1)
            gates = h_dec @ w["W_hdec_hdec"] + z @ w["W_z_hdec"] + context @ w["W_s_hdec"] + w["b_hdec"]
            h_dec, c_dec = self.lstm(gates, c_dec)
            k = (h_dec @ w["W_hdec_c"] + w["b_c"]).view(batch, patch, patch)
            fy, fx, gamma = self.filters(h_dec @ w["W_hdec_write_attent"] + w["b_write_attent"], patch)
            canvas = canvas + (fy.transpose(1, 2) @ k @ fx) / gamma
            prior = torch.tanh(h_dec @ w["W_hdec_mu_and_logsigma_prior"] + w["b_mu_and_logsigma_prior"])
            mu_p, log_sigma_p = prior.split(prior.shape[1] // 2, 1)
        p = torch.nn.functional.softplus(canvas) - x * canvas
        return kl.mean(), p.sum((1, 2)).mean()

    def update(self, x, ids, noise, rate, clip):
        kl, nll = self.bound(x, ids, noise)
        grads = dict(zip(self.w, torch.autograd.grad(kl + nll, list(self.w.values()))))
        squares = {name: (g**2).sum().item() for name, g in grads.items()}
        if clip == "global":
            squares = dict.fromkeys(squares, sum(squares.values()))
        else:  # what reads z and what reads the context are one matrix of the model
            squares["W_z_hdec"] = squares["W_s_hdec"] = squares["W_z_hdec"] + squares["W_s_hdec"]
        with torch.no_grad():
            for name, p in self.w.items():
                g = grads[name] * min(1.0, CLIP / squares[name] ** 0.5)
                self.v[name] = DECAY * self.v[name] + (1 - DECAY) * g**2
                p -= rate * g / (self.v[name] + EPSILON).sqrt()
        return kl.item(), nll.item()


def both(config, recipe, dtype, count):
    """The reports of both trainings, update by update."""
    torch.manual_seed(0)
    model = AlignDRAW(config).to(dtype)
    model.reset_parameters(recipe.init)
    plain, source = Plain(model), MNISTCaptions(load_digits())
    trainer = Trainer(model, source, recipe, seed=0)
    for index in range(count):
        epoch, i = divmod(index, trainer.updates_per_epoch)
        if i == 0:
            examples = source.epoch(0, epoch, recipe.epoch_size)
        images, ids, _ = to_tensors(examples, slice(i * recipe.batch_size, (i + 1) * recipe.batch_size))
        generator = stream(0, index)
        noise = torch.randn(len(ids), config.steps, config.latent_units, generator=generator, dtype=dtype)
        ours = trainer.update()
        yield ours, plain.update(images[:, 0].to(dtype), ids, noise, ours.learning_rate, recipe.clip)


SMALL = AlignDRAWConfig(steps=5, encoder_units=24, decoder_units=20, latent_units=8, language_units=10, align_units=12)


@pytest.mark.parametrize("clip", ["global", "per_tensor"])
def test_training_follows_plain_pytorch(clip):
    recipe = TrainingConfig(epochs=3, epoch_size=120, batch_size=12, drop_epoch=2, clip=clip)
    curve = list(both(SMALL, recipe, torch.float64, 30))
    assert len(curve) == 30
    for ours, theirs in curve:
        assert (ours.kl, ours.nll) == pytest.approx(theirs, rel=1e-9)
    assert curve[-1][0].learning_rate == pytest.approx(1e-4)
    assert curve[-1][0].nll < curve[0][0].nll


if __name__ == "__main__":
    wanted = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    sums = torch.zeros(4, dtype=torch.float64)
    for ours, theirs in both(AlignDRAWConfig.preset("paper"), TrainingConfig.preset("paper"), torch.float32, wanted):
        sums += torch.tensor([ours.kl, ours.nll, *theirs], dtype=torch.float64)
        if (ours.index + 1) % 50 == 0:
            kl, nll, plain_kl, plain_nll = (sums / 50).tolist()
            print(
                f"updates {ours.index - 48:5d}-{ours.index + 1:5d}  aligndraw {kl + nll:8.2f} (KL {kl:6.2f})  "
                f"plain {plain_kl + plain_nll:8.2f} (KL {plain_kl:6.2f})",
                flush=True,
            )
            sums.zero_()
