"""Plain DRAW (Gregor et al., 2015) on the shipped MNIST digits, from aligndraw's modules.

python docs/examples/draw_mnist.py [updates] [picture.png]
"""

import sys

import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional

from aligndraw import ops
from aligndraw.data import load_digits
from aligndraw.nn import GlimpseRead, GlimpseWrite, LSTMCell, Posterior


class DRAW(nn.Module):
    """Draws a 28x28 picture in `steps` steps; the prior of every latent is N(0, I)."""

    def __init__(self, steps: int = 10, units: int = 128, latent_units: int = 10, size: int = 5) -> None:
        super().__init__()
        self.steps, self.latent_units = steps, latent_units
        self.read = GlimpseRead(units, size)
        self.write = GlimpseWrite(units, size, channels=1)
        self.encoder = LSTMCell(2 * size * size + units, units)
        self.decoder = LSTMCell(latent_units, units)
        self.posterior = Posterior(units, latent_units)
        self.canvas = nn.Parameter(torch.full((1, 28, 28), -3.0))
        for head in (self.read.window, self.write.window):
            nn.init.normal_(head.weight, std=0.01)  # the first windows cover the whole picture,
            with torch.no_grad():
                head.bias.copy_(torch.tensor([0.0, 0.0, 2.0, -0.3, 0.0]))  # with filters that touch

    def forward(self, x: Tensor) -> Tensor:
        """x [B, 1, 28, 28] in [0, 1] -> −log p(x | z) + KL, an upper bound of −log p(x) in nats [B]."""
        canvas = self.canvas.expand(len(x), -1, -1, -1)
        encoder, decoder = self.encoder.initial_state(len(x)), self.decoder.initial_state(len(x))
        zero, bound = x.new_zeros(len(x), self.latent_units), x.new_zeros(len(x))
        for _ in range(self.steps):
            glimpse, _ = self.read(decoder[0], x, canvas)
            encoder = self.encoder(torch.cat([glimpse.flatten(1), decoder[0]], 1), encoder)
            mu, log_sigma = self.posterior(encoder[0])
            z, kl, _ = ops.latent(mu, log_sigma, zero, zero, torch.randn_like(zero))
            decoder = self.decoder(z, decoder)
            canvas, _, _ = self.write(decoder[0], canvas)
            bound = bound + kl
        nll = functional.binary_cross_entropy_with_logits(canvas, x, reduction="none")
        return bound + nll.flatten(1).sum(1)

    @torch.no_grad()
    def sample(self, count: int) -> Tensor:
        """Pictures [count, 1, 28, 28] in [0, 1]."""
        canvas, decoder = self.canvas.expand(count, -1, -1, -1), self.decoder.initial_state(count)
        for _ in range(self.steps):
            decoder = self.decoder(torch.randn(count, self.latent_units), decoder)
            canvas, _, _ = self.write(decoder[0], canvas)
        return canvas.sigmoid()


def main(updates: int = 1000, path: str = "draw_mnist.png") -> DRAW:
    torch.manual_seed(0)
    pictures = torch.from_numpy(load_digits().images[:8000])[:, None] / 255
    model = DRAW()
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    for i in range(updates):
        batch = pictures[torch.randint(len(pictures), (64,))]
        loss = model(batch).mean()
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 10.0)
        optimizer.step()
        if i % 100 == 0 or i == updates - 1:
            print(f"update {i + 1}: {loss.item():.1f} nats", flush=True)
    grid = model.sample(64).view(8, 8, 28, 28).transpose(1, 2).reshape(224, 224)
    Image.fromarray((grid * 255).byte().numpy()).resize((672, 672), Image.Resampling.NEAREST).save(path)
    return model


if __name__ == "__main__":
    main(*(kind(v) for kind, v in zip((int, str), sys.argv[1:])))
