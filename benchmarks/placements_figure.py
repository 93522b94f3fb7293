"""What a model does with a caption that training never shows, beside captions that it shows: one PNG file.

    python benchmarks/placements_figure.py FOLDER -o placements.png

The first panel is the held-out placement, the second has another digit at the same place, the third has the same digit
at another place. FOLDER holds a model of MNIST with captions that attends to words.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from PIL import Image

from aligndraw.data import (
    BANS,
    PLACES,
    TEMPLATES,
    MNISTCaptions,
    as_images,
    bans_named,
    caption,
    is_held_out,
    load_digits,
)
from aligndraw.evaluation.naming import naming_costs
from aligndraw.model import AlignDRAW
from aligndraw.model.saved import load_model
from aligndraw.noise import draw_noise, stream
from aligndraw.text import Vocabulary
from aligndraw.viz import comparison_figure, comparison_panel, save_png, trace

PICTURES = 8  # of the mean, and of the costs of other digits
SEED = 0


def placements_of(place: str, bans_name: str) -> list[tuple[int, int, int]]:
    """The held-out placement of a place, another digit there, and the same digit elsewhere, as (template, a, b)."""
    bans = BANS[bans_name]
    k = next(i for i, t in enumerate(TEMPLATES) if place in (t.first, t.second))
    slot = 0 if TEMPLATES[k].first == place else 1
    banned = int(bans.table[k][slot])
    others = [d for d in range(10) if d not in bans.table[k]]
    if TEMPLATES[k].second is None:
        found = [(k, banned, -1), (k, others[0], -1)]
    else:
        pairs = ((banned, others[0]), (others[1], others[0]))
        found = [(k, *(pair if slot == 0 else pair[::-1])) for pair in pairs]
    elsewhere = next(i for i in range(4, 8) if TEMPLATES[i].first != place and bans.table[i][0] != banned)
    return [*found, (elsewhere, banned, -1)]


def panel(
    model: AlignDRAW, vocabulary: Vocabulary, placement: tuple[int, int, int], which: int, held: bool
) -> Image.Image:
    """The panel of one placement."""
    digits, text = load_digits(), caption(*placement)
    ids, lengths = vocabulary.encode_batch([text] * PICTURES)
    encoded = model.encode_captions(ids[:1], lengths[:1])
    size = (model.config.steps, model.config.latent_units)
    noise = draw_noise(PICTURES, size, [stream(SEED, i) for i in range(PICTURES)], model.canvas)
    pictures, *_ = MNISTCaptions(digits, "validation").for_placements([placement] * PICTURES, SEED).batch(slice(None))
    real = as_images(torch.from_numpy(pictures))
    costs = naming_costs(model, digits, [placement] * PICTURES, which, seed=SEED, captions=vocabulary).mean(0)
    own = placement[1 + which]
    return comparison_panel(
        vocabulary.decode(vocabulary.encode(text)).split(),
        trace(model, encoded, noise[:1]),
        trace(model, encoded, noise[:1], real[:1]),
        model.sample(ids, lengths, noise=noise).images.mean(0).numpy(),
        real[0].numpy(),
        {str(d): float(costs[d] - costs[own]) for d in range(10) if d != own},
        title=text,
        remark="held out" if held else "seen in training",
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="of the model")
    parser.add_argument("--bans", choices=BANS, help="that it was trained under [as its config.json says, else strict]")
    parser.add_argument("--place", choices=PLACES, default="left", help="of the held-out digit [%(default)s]")
    parser.add_argument("-o", type=Path, default=Path("placements.png"), metavar="FILE", help="[%(default)s]")
    arguments = parser.parse_args()
    model, vocabulary, notes = load_model(arguments.folder)
    if not (isinstance(model, AlignDRAW) and model.attends):
        parser.error(f"{arguments.folder} must hold an alignDRAW")
    name = arguments.bans or notes.get("data", {}).get("bans") or "strict"
    bans, panels = bans_named(name), []
    with torch.no_grad():
        for i, placement in enumerate(placements_of(arguments.place, name)):
            template = TEMPLATES[placement[0]]
            which = int(i < 2 and template.second == arguments.place)
            panels.append(panel(model, vocabulary, placement, which, bool(is_held_out(*placement, bans))))
    heading = f"A placement that training never shows, and two that it shows. {name} bans, first noise of seed {SEED}."
    save_png(comparison_figure(heading, panels), arguments.o, {"Model": str(arguments.folder)})


if __name__ == "__main__":
    main()
