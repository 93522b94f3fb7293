"""Image files as small arrays: what is read of them."""

import numpy as np
import pytest
from PIL import Image

from aligndraw.data import image_pixels
from aligndraw.data.image_pixels import read_image


def save(path, pixels, **options):
    """Pixels [H, W, 3], or of another mode, as a file."""
    Image.fromarray(np.asarray(pixels, np.uint8), options.pop("mode", None)).save(path, **options)
    return path


@pytest.fixture
def wide(tmp_path):
    """8 high and 16 wide: red, green, blue and white columns of 4."""
    colours = np.array([(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)])
    return save(tmp_path / "wide.png", np.broadcast_to(colours.repeat(4, 0), (8, 16, 3)))


def test_squashed(wide):
    image = read_image(wide, (2, 4))
    assert image.dtype == np.uint8 and image.shape == (3, 2, 4) and image.flags.c_contiguous
    assert image[:, 0].T.tolist() == [[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 255]]


def test_cropped(wide):
    assert read_image(wide, (2, 2), crop=True)[:, 1].T.tolist() == [[0, 255, 0], [0, 0, 255]]


def test_a_pixel_is_the_mean_of_its_area(tmp_path):
    """Also where its borders go through pixels: 5 pixels to 2."""
    pixels = np.arange(5)[None, :, None].repeat(3, 2) * 40
    image = read_image(save(tmp_path / "a.png", pixels), (1, 2))
    assert image[0, 0].tolist() == [
        pytest.approx((0 + 40 + 80 / 2) / 2.5, abs=1),
        pytest.approx((40 + 120 + 160) / 2.5, abs=1),
    ]


def test_an_image_of_the_size_stays_as_it_is(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (7, 5, 3))
    assert (read_image(save(tmp_path / "a.png", pixels), (7, 5)) == pixels.transpose(2, 0, 1)).all()


def test_kinds_of_images(tmp_path):
    """Grey, with a palette, with transparency (on white), turned by its camera, JPEG."""
    grey = save(tmp_path / "grey.png", np.full((4, 4), 90))
    assert (read_image(grey, (2, 2)) == 90).all()
    Image.new("P", (4, 4), 1).save(tmp_path / "p.gif")
    assert read_image(tmp_path / "p.gif", (2, 2)).shape == (3, 2, 2)
    clear = save(tmp_path / "clear.png", np.broadcast_to((200, 0, 0, 0), (4, 4, 4)))
    assert (read_image(clear, (2, 2)) == 255).all()
    camera = Image.Exif()
    camera[274] = 6  # the camera lay on its side
    upright = Image.fromarray(np.uint8([[0, 255]]).repeat(8, 0).repeat(4, 1))
    upright.save(tmp_path / "turned.jpg", exif=camera, quality=100)
    turned = read_image(tmp_path / "turned.jpg", (2, 2))[0]
    assert turned[0].max() < 40 and turned[1].min() > 215


def test_too_many_pixels(tmp_path, monkeypatch):
    monkeypatch.setattr(image_pixels, "MAX_PIXELS", 15)
    with pytest.raises(ValueError, match="it has 16 pixels, more than 15"):
        read_image(save(tmp_path / "a.png", np.zeros((4, 4, 3))), (2, 2))
