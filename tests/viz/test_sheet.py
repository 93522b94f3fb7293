"""Sheets of captions and pictures: every pixel in its place, every word readable."""

import numpy as np
import pytest
from PIL import Image

from aligndraw.viz import Captioned, contact_sheet, save_png
from aligndraw.viz.sheet import GAP, INK, MARGIN, PAPER, REMARK, sheet_font, wrap

WORDS = "the digit seven is at the bottom left of the image"


def pictures(n, channels=1, height=60, width=60):
    return np.random.default_rng(n).random((n, channels, height, width), np.float32)


def crop(sheet, left, top, width, height):
    return np.asarray(sheet)[top : top + height, left : left + width]


def test_pixels_are_crisp_squares_of_the_picture():
    shown = pictures(1, height=5, width=4)
    sheet = contact_sheet([Captioned(WORDS, shown)])
    scale = 32  # the longer side fills 160 pixels
    block = crop(sheet, MARGIN, MARGIN, 4 * scale, 5 * scale)
    wanted = np.kron(np.rint(shown[0, 0] * 255), np.ones((scale, scale)))
    assert (block == wanted[..., None]).all()


def test_black_and_white_stay_so():
    shown = np.zeros((1, 1, 60, 60), np.float32)
    shown[..., 30:] = 1
    block = crop(contact_sheet([Captioned(WORDS, shown)]), MARGIN, MARGIN, 180, 180)
    assert (block[:, :90] == 0).all() and (block[:, 90:] == 255).all()


def test_colour():
    shown = pictures(1, channels=3, height=32, width=32)
    block = crop(contact_sheet([Captioned(WORDS, shown)]), MARGIN, MARGIN, 160, 160)
    assert (block[2::5, 2::5] == np.rint(shown[0] * 255).transpose(1, 2, 0)).all()


@pytest.mark.parametrize("n", [5, 8, 9, 16])
def test_many_pictures_of_a_caption_are_eight_a_row(n):
    shown = pictures(n)
    sheet = contact_sheet([Captioned(WORDS, shown)])
    for i, picture in enumerate(shown):
        left, top = MARGIN + i % 8 * (120 + GAP), MARGIN + i // 8 * (120 + GAP)
        assert (crop(sheet, left, top, 120, 120)[::2, ::2, 0] == np.rint(picture[0] * 255)).all()


def test_captions_with_one_picture_are_four_a_row():
    blocks = [Captioned(WORDS, pictures(1) * (i + 1) / 6) for i in range(6)]
    sheet = contact_sheet(blocks)
    height = (sheet.height - MARGIN) // 2
    for i, block in enumerate(blocks):
        left, top = MARGIN + i % 4 * (180 + MARGIN), MARGIN + i // 4 * height
        assert (crop(sheet, left, top, 180, 180)[::3, ::3, 0] == np.rint(block.pictures[0, 0] * 255)).all()


def colours(pixels):
    return {tuple(p) for p in pixels.reshape(-1, 3).tolist()}


def test_caption_and_remark_stand_below_their_picture():
    blocks = [Captioned(WORDS, np.zeros((1, 1, 60, 60)), remark) for remark in ("", "never seen")]
    sheet = contact_sheet(blocks)
    plain, remarked = (
        crop(sheet, MARGIN + i * (180 + MARGIN), MARGIN + 180, 180, sheet.height - MARGIN - 180) for i in (0, 1)
    )
    assert INK in colours(plain) and REMARK not in colours(plain)
    assert {INK, REMARK} <= colours(remarked)
    reds = np.argwhere((remarked == REMARK).all(2))[:, 0]
    blacks = np.argwhere((remarked == INK).all(2))[:, 0]
    assert blacks.max() < reds.min()


def test_text_never_leaves_its_block():
    long = Captioned("supercalifragilisticexpialidocious " * 6, np.zeros((1, 1, 60, 60)))
    sheet = contact_sheet([long, Captioned("", np.zeros((1, 1, 60, 60)))])
    gutter = crop(sheet, MARGIN + 180, 0, MARGIN, sheet.height)
    margins = (
        gutter,
        crop(sheet, 0, 0, MARGIN, sheet.height),
        crop(sheet, 0, sheet.height - MARGIN, 500, MARGIN),
    )
    assert all(colours(margin) == {PAPER} for margin in margins)


@pytest.mark.parametrize("width", [60, 120, 180, 1000])
@pytest.mark.parametrize("text", [WORDS, "supercalifragilisticexpialidocious bus", "", "  two\nlines "])
def test_wrapping_keeps_every_character_within_the_width(text, width):
    lines = wrap(text, width, sheet_font())
    assert "".join("".join(lines).split()) == "".join(text.split())
    assert all(sheet_font().getlength(line) <= width for line in lines)
    for line, following in zip(lines, lines[1:]):  # no line ends early
        assert sheet_font().getlength(f"{line} {following.split()[0]}") > width


@pytest.mark.parametrize(
    ("shown", "message"),
    [
        (np.zeros((0, 1, 4, 4)), r"n at least 1 .* got \[0, 1, 4, 4\]"),
        (np.zeros((1, 2, 4, 4)), r"C = 1 \(grey\) or 3 \(colour\), got \[1, 2, 4, 4\]"),
        (np.zeros((1, 4, 4)), r"got \[1, 4, 4\]"),
        (np.full((1, 1, 4, 4), 1.5), r"lie in \[0, 1\], got values from 1.5 to 1.5"),
        (np.full((1, 1, 4, 4), -0.1), "got values from -0.1"),
        (np.full((1, 1, 4, 4), np.nan), "got values from nan"),
    ],
)
def test_refused(shown, message):
    with pytest.raises(ValueError, match=message):
        contact_sheet([Captioned(WORDS, shown)])


def test_nothing_to_show():
    with pytest.raises(ValueError, match="at least one caption, got none"):
        contact_sheet([])


def test_metadata(tmp_path):
    texts = {"Caption": "a\nb", "Seed": "7", "Model": "Größe 模型"}
    save_png(Image.new("RGB", (3, 2), "red"), tmp_path / "a.png", texts)
    with Image.open(tmp_path / "a.png") as image:
        assert image.text == texts
        assert image.getpixel((2, 1)) == (255, 0, 0)


def test_a_failed_save_leaves_the_old_file(tmp_path, monkeypatch):
    (tmp_path / "a.png").write_text("old")

    def full(self, path, *arguments, **options):
        path.write_text("half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", full)
    with pytest.raises(OSError, match="No space"):
        save_png(Image.new("RGB", (3, 2)), tmp_path / "a.png", {})
    assert [p.read_text() for p in tmp_path.iterdir()] == ["old"]
