"""The excess of held-out placements, where what they should cost is known."""

import numpy as np
import pytest
import torch

from aligndraw import AlignDRAW, AlignDRAWConfig
from aligndraw.data import BANS, STRICT, Bans, MNISTCaptions, is_held_out, load_digits
from aligndraw.evaluation.bound import each_bound
from aligndraw.evaluation.excess import excess_of, excess_placements, score_excess

TINY = AlignDRAWConfig(steps=2, encoder_units=6, decoder_units=5, latent_units=3, language_units=4, align_units=4)


def costs(placements, bans, beyond):
    """A sum of what a template and its digits cost, and of `beyond` where they are held out; KL, NLL and bound."""
    rng = np.random.default_rng(0)
    templates = rng.normal((170,) * 4 + (80,) * 4, 5)  # of two digits, of one
    first, second = rng.normal(0, 10, (2, 10))
    template, a, b = np.array(placements).T
    nll = templates[template] + first[a] + np.where(b >= 0, second[b], 0)
    nll = nll + beyond * is_held_out(template, a, b, bans)
    kl = nll / 4
    return np.stack([kl, nll, kl + nll], 1)


@pytest.mark.parametrize("name", BANS)
def test_it_is_what_was_added(name):
    """Although held-out placements have other digits, and more of them have two."""
    bans, placements = BANS[name], excess_placements(2)
    measured = costs(placements, bans, beyond=8.0)
    found = excess_of(measured, placements, bans)
    assert set(found) == {"one_digit", "two_digits"}
    for excess in found.values():
        assert (excess.kl.mean, excess.nll.mean, excess.bound.mean) == pytest.approx((2, 8, 10), abs=1e-9)
        assert max(excess.kl.error, excess.nll.error, excess.bound.error) < 1e-9
    held_out = is_held_out(*np.array(placements).T, bans)
    assert abs(measured[held_out, 1].mean() - measured[~held_out, 1].mean() - 8) > 5  # what the plain gap says


def test_errors_are_those_of_held_out_pictures():
    placements = excess_placements(2)
    measured = costs(placements, STRICT, 0.0)
    held_out = is_held_out(*np.array(placements).T)
    two = np.array(placements)[:, 2] >= 0
    measured[np.flatnonzero(held_out & two)[:76]] += 6
    measured[np.flatnonzero(held_out & two)[76:]] -= 2
    estimate = excess_of(measured, placements, STRICT)["two_digits"].bound
    assert estimate.mean == pytest.approx(2) and estimate.error == pytest.approx(4 / 151**0.5)


def test_pictures():
    assert len(excess_placements(1)) == 480 and len(excess_placements(4)) == 1920
    assert excess_placements(3).count((0, 2, 5)) == 3 and excess_placements(3).count((7, 9, -1)) == 6


def test_a_model(tmp_path):
    """Its KL and NLL, of the pictures that are documented, in batches of any size."""
    torch.manual_seed(0)
    model, digits, seen = AlignDRAW(TINY), load_digits(), []
    found = score_excess(model, digits, "test", 1, 3, bans=BANS["authors"], on_batch=seen.append)
    assert sum(seen) == 480 and max(seen) == 100
    other = score_excess(model, digits, "test", 1, 3, bans=BANS["authors"], batch_size=77)
    examples = MNISTCaptions(digits, "test").for_placements(excess_placements(1), 3)
    bounds = list(each_bound(model, examples, seed=3))
    kl, nll = (torch.cat([getattr(b, name) for b in bounds]).double().numpy() for name in ("kl", "nll"))
    by_hand = excess_of(np.stack([kl, nll, kl + nll], 1), excess_placements(1), BANS["authors"])
    for name, excess in found.items():
        for term in ("kl", "nll", "bound"):
            value = getattr(excess, term).mean
            assert value == pytest.approx(getattr(by_hand[name], term).mean, abs=1e-3)
            assert value == pytest.approx(getattr(other[name], term).mean, abs=1e-2)


def test_refused():
    with pytest.raises(ValueError, match="n must be at least 1, got 0"):
        score_excess(AlignDRAW(TINY), load_digits(), n=0)
    everywhere = Bans("everywhere", (2, 5, 2, 5, 2, 5, 2, 5, 2, 2, 2, 2))
    with pytest.raises(ValueError, match="bans must leave each digit seen in some template, got everywhere: "):
        excess_of(np.zeros((480, 3)), excess_placements(1), everywhere)
