"""step_products: the products of a step, of the presets that it offers."""

import step_products


def test_it_knows_the_products_of_a_step():
    """The gates of both LSTMs from their states in each of the 32 steps; the gradients of these weights once."""
    for preset, units in (("mnist", 300), ("coco", 550)):
        sizes = step_products.sizes(preset, 100)
        assert (sizes[100, units, 4 * units], sizes[4 * units, 3200, units]) == (64, 2), preset
