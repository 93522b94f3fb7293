"""Shape units: patches whose shapes the words of a step decide."""

import pytest
import torch

from aligndraw.model.shapes import MirroredMaps, ShapeUnits


def test_units_are_linear_in_the_words():
    torch.manual_seed(0)
    shapes = ShapeUnits(latent_units=2, words=4, units=3, shape_units=5).double()
    z, s, h = (torch.randn(6, n, dtype=torch.float64) for n in (2, 4, 3))
    one, other = shapes(z, s, h).chunk(2, 1)
    linear = s @ shapes.words.weight.mT + shapes.words.bias
    difference = ((one + other) / linear - 1).abs()
    assert 1e-5 < difference.max() and (difference <= linear**2 / 6144).all()
    share = torch.sigmoid(torch.cat([z, h], 1) @ shapes.side.weight.mT + shapes.side.bias)
    torch.testing.assert_close(one / (one + other), share.expand(-1, 5))


def test_maps_of_the_other_half_are_mirrored():
    maps = MirroredMaps(shape_units=2, count=3, size=4)
    units = torch.rand(2, 2)
    nothing = torch.zeros_like(units)
    one, other = maps(torch.cat([units, nothing], 1)), maps(torch.cat([nothing, units], 1))
    torch.testing.assert_close(one, units @ maps.weight.mT + maps.bias)
    mirrored = (one - maps.bias).view(2, 3, 4, 4).flip(3).flatten(1)
    torch.testing.assert_close(other, mirrored + maps.bias)
    both = torch.cat([units, 2 * units], 1)
    torch.testing.assert_close(maps(both), both @ maps.columns().mT + maps.bias)


def test_the_state_chooses_colours_and_sides_of_the_shapes_of_words(tiny, batch):
    """Each map is a mean of the attended words' map and its mirror image. Other maps have no part in a patch."""
    model, (images, captions, lengths) = tiny(shape_units=6, opacity=True, tints=2), batch
    write, drawing = model.write, model.sample(captions, lengths, generator=3)
    with torch.no_grad():
        context = drawing.weights @ model.encode_captions(captions, lengths).words
        units = model.shapes.words(context)
        opacity, mask, patch = (
            (units @ maps.weight.mT).unflatten(2, (-1, 4, 4)) for maps in (write.opacity, write.tints.mask, write.patch)
        )
    drawn = drawing.patches[:, :, -1].logit().flatten(2) - write.opacity.bias.detach()  # [B, T, p·p]
    sides = torch.cat([opacity, opacity.flip(4)], 2).flatten(3).mT
    share = torch.linalg.lstsq(sides, drawn[..., None]).solution
    torch.testing.assert_close(sides @ share, drawn[..., None], rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(share.sum(2), torch.ones_like(share.sum(2)), rtol=1e-3, atol=0)
    assert share.min() > 0.01 and share.std() > 0.01

    def mean(maps):
        return share[:, :, :1, :, None] * maps + share[:, :, 1:, :, None] * maps.flip(4)

    bias = write.patch.bias.detach().view(2, 4, 4)
    tinted = (drawing.patches[:, :, :-1] - mean(patch) - bias).flatten(3)  # [B, T, C, p·p]
    first = mean(mask).flatten(2) + write.tints.mask.bias.detach()
    masks = torch.stack([first, write.tints.masks.detach()[0].flatten().expand_as(first)], 3)
    colours = torch.linalg.lstsq(masks, tinted.mT).solution
    torch.testing.assert_close(masks @ colours, tinted.mT, rtol=1e-3, atol=1e-3)
    assert colours.std() > 0.1
    model(images, captions, lengths, generator=1).loss.backward()
    assert all(parameter.grad.abs().max() > 0 for parameter in model.shapes.parameters())


@pytest.mark.parametrize("units", [0, 6])
def test_a_write_with_units_needs_them(tiny, units):
    write = tiny(shape_units=units).write
    h, canvas = torch.zeros(1, 10, dtype=torch.float64), torch.zeros(1, 2, 9, 7, dtype=torch.float64)
    with pytest.raises(ValueError, match="^shapes must be given where there are shape units, and nowhere else$"):
        write(h, canvas, None if units else torch.zeros(1, 12, dtype=torch.float64))


def test_a_number_of_units(tiny):
    with pytest.raises(ValueError, match="^shape_units must be a whole number of at least 0, got -1$"):
        tiny(shape_units=-1)
