"""Image files as small arrays: every kind of file gives the right pixels or one line."""

import io
import logging
import os
import struct
import threading
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import EpsImagePlugin, Image, ImageFile

import aligndraw
from aligndraw.data import image_pixels
from aligndraw.data.image_pixels import ImageError, read_image, read_levels

RAMP = np.array([[0, 1, 128, 129, 257, 300, 32767, 32768, 65406, 65407, 65534, 65535]], np.uint16)  # [1, 12]
EXACT = (RAMP.astype(np.int64) * 255 + 32767) // 65535  # 65535 is white


def save(path, pixels, **options):
    """Pixels [H, W, 3], or of another mode, as a file."""
    Image.fromarray(np.asarray(pixels, np.uint8), options.pop("mode", None)).save(path, **options)
    return path


def png(depth, colour, row, **chunks):
    """A PNG file of one row, its samples packed already, with more chunks: `tRNS=...`."""
    width = len(row) * 8 // depth // {0: 1, 2: 3, 3: 1, 4: 2}[colour]
    chunks = {"IHDR": struct.pack(">IIBBBBB", width, 1, depth, colour, 0, 0, 0), **chunks}
    chunks |= {"IDAT": zlib.compress(b"\0" + row), "IEND": b""}
    named = [name.encode() + content for name, content in chunks.items()]
    parts = (struct.pack(">I", len(part) - 4) + part + struct.pack(">I", zlib.crc32(part)) for part in named)
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def tiff(content, width, bits, photometric=1, samples=1, order="<", **more):
    """An uncompressed TIFF file of one row; `more` are tags by number, `t339=2`."""
    tags = {256: width, 257: 1, 258: bits, 259: 1, 262: photometric, 273: 8, 277: samples, 278: 1, 279: len(content)}
    tags |= {int(name[1:]): value for name, value in more.items()}
    content += b"\0" * (len(content) % 2)
    bits_at = 8 + len(content)
    content += struct.pack(f"{order}{samples}H", *[bits] * samples)
    entries = b""
    for tag, value in sorted(tags.items()):
        count = samples if tag == 258 else 1
        value = bits_at if tag == 258 and samples > 2 else value
        kind, form = (3, f"{order}HHIHH") if tag not in (256, 257, 273, 279) and count < 3 else (4, f"{order}HHII")
        if count > 2:
            entries += struct.pack(f"{order}HHII", tag, 3, count, bits_at)
        elif kind == 3:
            entries += struct.pack(form, tag, 3, count, value, value if count == 2 else 0)
        else:
            entries += struct.pack(form, tag, 4, count, value)
    start = struct.pack(f"{order}2sHI", b"II" if order == "<" else b"MM", 42, 8 + len(content))
    return start + content + struct.pack(f"{order}H", len(tags)) + entries + bytes(4)


@pytest.fixture
def read(tmp_path):
    """Reads a file of these contents at its own size: [H, W, 3]."""

    def read(content, width=12, height=1):
        (tmp_path / "image").write_bytes(content)
        return read_image(tmp_path / "image", (height, width)).transpose(1, 2, 0)

    return read


def encoded(image, kind, **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


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
    assert image[0, 0].tolist() == [(0 + 40 + 80 / 2) / 2.5, (80 / 2 + 120 + 160) / 2.5]


@pytest.mark.parametrize("size", [(1, 1), (3, 5), (7, 11), (20, 4), (4, 30), (40, 41)])
def test_means_of_areas(tmp_path, size):
    """Shrunk and enlarged, against every pixel repeated so often that borders fall between the copies."""
    pixels = np.random.default_rng(0).integers(0, 256, (7, 11, 3))
    fine = pixels.repeat(size[0], 0).repeat(size[1], 1).reshape(size[0], 7, size[1], 11, 3).mean((1, 3))
    image = read_image(save(tmp_path / "a.png", pixels), size)
    assert np.abs(image.transpose(1, 2, 0) - fine).max() <= 0.5 + 1e-4


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


GREY_16 = {
    "png": encoded(Image.fromarray(RAMP), "PNG"),
    "tiff": encoded(Image.fromarray(RAMP), "TIFF"),
    "tiff, packed": encoded(Image.fromarray(RAMP), "TIFF", compression="tiff_adobe_deflate"),
    "tiff, big-endian": tiff(RAMP.astype(">u2").tobytes(), 12, 16, order=">"),
    "tiff, white is 0": tiff((65535 - RAMP).tobytes(), 12, 16, photometric=0),
    "pgm": b"P5\n12 1\n65535\n" + RAMP.astype(">u2").tobytes(),
}


@pytest.mark.parametrize("content", GREY_16.values(), ids=GREY_16)
def test_sixteen_bits_of_grey(read, content):
    """Values above 255 were white."""
    assert (read(content) == EXACT[..., None]).all()


def test_sixteen_bits_are_averaged_before_they_are_rounded(tmp_path):
    """Four pixels that round to 0, 0, 1 and 1 have a mean below a half."""
    Image.fromarray(np.array([[0, 0, 200, 200]], np.uint16)).save(tmp_path / "a.png")
    assert (read_image(tmp_path / "a.png", (1, 1)) == 0).all()
    Image.fromarray(np.full((3, 5), 40_000, np.uint16)).save(tmp_path / "b.png")
    assert (read_image(tmp_path / "b.png", (2, 2)) == 156).all()


def test_twelve_bits_of_grey(read):
    """4095 is white."""
    content = tiff(bytes([0x00, 0x0F, 0xFF, 0x80, 0x00, 0x10]), 4, 12)
    assert read(content, 4)[0, :, 0].tolist() == [0, 255, 128, 1]


def test_sixteen_bits_of_colour(read):
    """Pillow keeps the upper byte of each."""
    samples = np.array([[0, 300, 65535], [40_000, 20_000, 255]])
    for content in (
        png(16, 2, samples.astype(">u2").tobytes()),
        tiff(samples.astype("<u2").tobytes(), 2, 16, photometric=2, samples=3),
    ):
        assert np.abs(read(content, 2)[0] - samples / 257).max() < 1


REFUSED = {
    "whole numbers of 32 bits": tiff(np.array([0, 300, 70_000], "<u4").tobytes(), 3, 32),
    "floating-point numbers": encoded(Image.fromarray(np.array([[0, 0.5, 1]], np.float32)), "TIFF"),
    "signed whole numbers": tiff(bytes([0, 127, 255]), 3, 8, t339=2),
    "floating-point numbers ": tiff(np.zeros(3, "<f8").tobytes(), 3, 64, t339=3),
    "floating-point numbers  ": tiff(np.zeros(3, "<f2").tobytes(), 3, 16, t339=3),
    "floating-point numbers   ": tiff(np.zeros(9, "<f4").tobytes(), 3, 32, photometric=2, samples=3, t339=3),
    "signed whole numbers  ": tiff(bytes(9), 3, 8, photometric=2, samples=3, t339=2),
    "whole numbers of 64 bits": tiff(bytes(24), 3, 64),
    "signed whole numbers ": encoded(Image.fromarray(np.array([[-1, 300, 70_000]], np.int32)), "TIFF"),
}


@pytest.mark.parametrize(("kind", "content"), REFUSED.items(), ids=REFUSED)
def test_no_agreed_range(read, kind, content):
    """They were clipped to 0…255, so that pictures in [0, 1] became black."""
    with pytest.raises(ValueError, match=f"^it holds {kind.strip()}, and nothing says which is white: save it with 8"):
        read(content, 3)


MODES = {
    "1": ([[0, 255]], [(0, 0, 0), (255, 255, 255)]),
    "L": ([[7, 200]], [(7, 7, 7), (200, 200, 200)]),
    "LA": ([[(7, 255), (200, 0)]], [(7, 7, 7), (255, 255, 255)]),
    "RGB": ([[(1, 2, 3), (4, 5, 6)]], [(1, 2, 3), (4, 5, 6)]),
    "RGBA": ([[(1, 2, 3, 255), (4, 5, 6, 0)]], [(1, 2, 3), (255, 255, 255)]),
    "CMYK": ([[(255, 0, 0, 0), (0, 0, 0, 255)]], [(0, 255, 255), (0, 0, 0)]),
    "LAB": ([[(255, 128, 128), (0, 128, 128)]], [(255, 255, 255), (0, 0, 0)]),
}


@pytest.mark.parametrize("mode", MODES)
def test_modes(read, mode):
    pixels, wanted = MODES[mode]
    image = Image.new(mode, (2, 1))
    for x, pixel in enumerate(pixels[0]):
        image.putpixel((x, 0), pixel)
    got = read(encoded(image, "TIFF"), 2)[0]
    assert np.abs(got.astype(int) - wanted).max() <= (1 if mode == "LAB" else 0), got


CLEAR = {  # files of four levels of grey, of which one is transparent
    "2 bits": (png(2, 0, bytes([0b00011011]), tRNS=struct.pack(">H", 1)), [0, 255, 170, 255]),
    "4 bits": (png(4, 0, bytes([0x01, 0x8F]), tRNS=struct.pack(">H", 8)), [0, 17, 255, 255]),
    "8 bits": (png(8, 0, bytes([0, 1, 128, 255]), tRNS=struct.pack(">H", 128)), [0, 1, 255, 255]),
    "16 bits": (
        png(16, 0, struct.pack(">4H", 0, 25700, 25701, 65535), tRNS=struct.pack(">H", 25700)), [0, 255, 100, 255]
    ),
}  # fmt: skip


@pytest.mark.parametrize(("content", "wanted"), CLEAR.values(), ids=CLEAR)
def test_a_transparent_grey(read, content, wanted):
    """The file names it in its own bits."""
    assert read(content, 4)[0, :, 0].tolist() == wanted


def test_a_transparent_colour_of_sixteen_bits(read):
    samples = struct.pack(">6H", 1000, 2000, 3000, 40_000, 20_000, 65535)
    content = png(16, 2, samples, tRNS=struct.pack(">3H", 1000, 2000, 3000))
    assert read(content, 2)[0, 0].tolist() == [255, 255, 255] and read(content, 2)[0, 1].tolist() == [156, 78, 255]


def test_a_transparent_colour_has_sixteen_bits(read):
    """Colours of the same upper bytes were transparent, too."""
    samples = struct.pack(">9H", 1000, 2000, 3000, 1001, 2000, 3000, 1000, 2001, 3000)
    content = png(16, 2, samples, tRNS=struct.pack(">3H", 1000, 2000, 3000))
    assert read(content, 3)[0].tolist() == [[255, 255, 255], [3, 7, 11], [3, 7, 11]]


def test_forms_of_tiff_that_are_not_read(read):
    """They are sound."""
    content = tiff(bytes(12), 3, 16, samples=2, t338=2)
    with pytest.raises(
        ImageError, match="^it is a TIFF file of 2 samples of 16 bits, which are not read: save it as PNG$"
    ):
        read(content, 3)


PALETTE = bytes([10, 20, 30, 40, 50, 60])


@pytest.mark.parametrize(
    ("chunks", "colours"),
    [
        ({}, "0 colours"),
        ({"tRNS": b"\xff\0"}, "0 colours"),
        ({"PLTE": PALETTE}, "2 colours"),
        ({"PLTE": PALETTE[:3]}, "1 colour"),
    ],
)
def test_palettes_that_lack_a_colour(read, chunks, colours):
    """It was black."""
    content = png(8, 3, bytes([0, 2, 1, 0]), **chunks)
    with pytest.raises(ImageError, match=f"^it is damaged: its palette has {colours}, and a pixel is of number 2$"):
        read(content, 4)


def test_a_palette_of_few_colours(read):
    content = png(8, 3, bytes([0, 1, 1, 0]), PLTE=PALETTE)
    assert read(content, 4)[0].tolist() == [[10, 20, 30], [40, 50, 60], [40, 50, 60], [10, 20, 30]]


def test_a_frame_that_is_smaller_than_its_screen(read):
    """The rest is transparent, so white; it had the first colour of the palette."""
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 40, 50, 60])
    image.putdata([0, 1])
    content = bytearray(encoded(image, "GIF"))
    content[6:10] = struct.pack("<HH", 4, 2)  # the screen's size
    place = content.index(b",\0\0\0\0\2\0\1\0")
    content[place + 1 : place + 5] = struct.pack("<HH", 1, 1)  # left and top of the frame
    white = [255, 255, 255]
    assert read(bytes(content), 4, 2).tolist() == [[white] * 4, [white, [10, 20, 30], [40, 50, 60], white]]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no pipes")
def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "a.png")
    with pytest.raises(ImageError, match="^it is a pipe or a device, not a file$"):
        read_image(tmp_path / "a.png", (2, 2))


def test_palettes_with_transparency(read):
    image = Image.new("P", (3, 1))
    image.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90])
    image.putdata([0, 1, 2])
    wanted = [[10, 20, 30], [255, 255, 255], [70, 80, 90]]
    for content in (
        encoded(image, "PNG", transparency=1),
        encoded(image, "PNG", transparency=bytes([255, 0, 255])),
        encoded(image, "GIF", transparency=1),
    ):
        assert read(content, 3)[0].tolist() == wanted


@pytest.mark.parametrize("kind", ["GIF", "PNG", "TIFF", "WEBP"])
def test_the_first_frame_of_several(read, kind):
    frames = [Image.new("RGB", (2, 1), colour) for colour in ("red", "lime")]
    exact = {"lossless": True} if kind == "WEBP" else {}
    content = encoded(frames[0], kind, save_all=True, append_images=frames[1:], **exact)
    assert read(content, 2)[0].tolist() == [[255, 0, 0]] * 2


TURNS = (
    ("abc\ndef", 1), ("cba\nfed", 2), ("fed\ncba", 3), ("def\nabc", 4),
    ("ad\nbe\ncf", 5), ("da\neb\nfc", 6), ("fc\neb\nda", 7), ("cf\nbe\nad", 8),
)  # fmt: skip


@pytest.mark.parametrize(("upright", "orientation"), TURNS)
@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("deep", [False, True], ids=["8 bits", "16 bits"])
def test_upright(read, upright, orientation, kind, deep):
    """As the camera's orientation says, once."""
    if deep and kind == "WEBP":
        return
    stored = np.array([[20, 40, 60], [80, 100, 120]], np.uint16 if deep else np.uint8)
    levels = {letter: level for letter, level in zip("abcdef", stored.ravel().tolist())}
    wanted = [[levels[letter] for letter in row] for row in upright.split("\n")]
    exif = Image.Exif()
    exif[274] = orientation
    image = Image.fromarray(stored * 257 if deep else stored)
    content = encoded(image, kind, exif=exif, **{"lossless": True} if kind == "WEBP" else {})
    assert read(content, len(wanted[0]), len(wanted))[..., 0].tolist() == wanted


def blocks():
    """EXIF blocks of which little or nothing can be read."""
    good = Image.Exif()
    good[274], good[271], good[282] = 1, "maker", 72.0
    whole = good.tobytes()
    yield from (b"", b"Exif\0\0", b"Exif\0\0no TIFF header", b"Exif\0\0MM\0*\xff\xff\xff\xff", whole[:20])
    for i in range(6, len(whole), 3):
        yield whole[:i] + bytes([whole[i] ^ 0xFF]) + whole[i + 1 :]


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_an_unreadable_block_of_the_camera(read, kind):
    """The picture is whole."""
    image = Image.fromarray(np.full((2, 2, 3), 77, np.uint8))
    for block in blocks():
        content = encoded(image, kind, exif=block)
        assert np.abs(read(content, 2, 2).astype(int) - 77).max() <= 2, block


def test_too_many_pixels(tmp_path, monkeypatch):
    monkeypatch.setattr(image_pixels, "MAX_PIXELS", 15)
    with pytest.raises(ValueError, match="it has 16 pixels, more than 15"):
        read_image(save(tmp_path / "a.png", np.zeros((4, 4, 3))), (2, 2))


@pytest.mark.parametrize("limit", [2, 20])
def test_more_pixels_than_pillow_opens(tmp_path, monkeypatch, limit):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
    monkeypatch.setattr(image_pixels, "MAX_PIXELS", 15)
    with pytest.raises(ImageError, match=r"^it has (16 pixels, )?more than 15( pixels)?$"):
        read_image(save(tmp_path / "a.png", np.zeros((4, 4, 3))), (2, 2))


def test_too_long_a_side(tmp_path, monkeypatch):
    """Few pixels, but a row of them."""
    monkeypatch.setattr(image_pixels, "MAX_SIDE", 30)
    for shape in ((1, 31, 3), (31, 1, 3)):
        with pytest.raises(ValueError, match="it has a side of 31 pixels, more than 30"):
            read_image(save(tmp_path / "a.png", np.zeros(shape)), (2, 2))
    assert read_image(save(tmp_path / "a.png", np.zeros((1, 30, 3))), (2, 2)).shape == (3, 2, 2)


def test_too_large_a_tile(read, monkeypatch):
    """The size of a tile is told apart from the picture's."""
    monkeypatch.setattr(image_pixels, "MAX_PIXELS", 1000)
    with pytest.raises(ValueError, match="it has tiles of 4,096 pixels, more than 1,000"):
        read(tiff(bytes(16), 16, 8, t322=64, t323=64), 16)


def test_what_an_image_takes(tmp_path, monkeypatch):
    """Memory goes by the pixels, not by the longer side times the size wanted; see MAX_SIDE."""
    import tracemalloc

    path = save(tmp_path / "a.png", np.zeros((1, 60_000), np.uint8))
    read_image(path, (2, 2))
    tracemalloc.start()
    try:
        read_image(path, (32, 32))
        assert tracemalloc.get_traced_memory()[1] < 60_000 * 3 * 4 * 10
    finally:
        tracemalloc.stop()


def test_large_images_one_at_a_time(tmp_path, monkeypatch):
    """Whatever the number of threads: the memory of one is that of all."""
    monkeypatch.setattr(image_pixels, "LARGE", 15)
    path, inside, most = save(tmp_path / "a.png", np.zeros((4, 4, 3))), [], []
    load = ImageFile.ImageFile.load

    def watched(file):
        inside.append(1)
        most.append(len(inside))
        threading.Event().wait(0.01)
        inside.pop()
        return load(file)

    monkeypatch.setattr(ImageFile.ImageFile, "load", watched)
    threads = [threading.Thread(target=read_image, args=(path, (2, 2))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert max(most) == 1


def test_kinds_that_start_programs_are_not_read(tmp_path, monkeypatch):
    """EPS is drawn by Ghostscript."""
    started = []
    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", lambda *_, **__: started.append(1))
    (tmp_path / "a.png").write_bytes(
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 4 4\n%%EndComments\nshowpage\n%%EOF\n"
    )
    with pytest.raises(ValueError, match="^it is damaged or no PNG, JPEG, GIF, BMP, TIFF, WebP or PPM file$"):
        read_image(tmp_path / "a.png", (2, 2))
    assert not started


@pytest.mark.parametrize("kind", ["PCX", "TGA", "ICO", "SGI", "DDS", "JPEG2000", "PDF"])
def test_other_kinds_are_not_read(read, kind):
    with pytest.raises(ValueError, match="^it is damaged or no PNG, JPEG"):
        read(encoded(Image.new("RGB", (16, 16)), kind), 16, 16)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "PPM", "MPO"])
def test_kinds_that_are_read(read, kind):
    assert np.abs(read(encoded(Image.new("RGB", (16, 16), (90, 90, 90)), kind), 16, 16).astype(int) - 90).max() <= 1


def test_one_door():
    """No other file of the package opens image files."""
    sources = Path(aligndraw.__file__).parent.rglob("*.py")
    assert [path.name for path in sources if "Image.open(" in path.read_text("utf-8")] == ["image_pixels.py"]


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "PPM"])
def test_cut_off(read, kind):
    """Never a picture that is part grey, but one line."""
    pixels = np.random.default_rng(0).integers(0, 256, (20, 20, 3), np.uint8)
    content = encoded(Image.fromarray(pixels), kind)
    for share in (0, 0.3, 0.6, 0.9):
        with pytest.raises(ImageError, match=r"^it is damaged(: .+| or no PNG.*)$"):
            read(content[: int(len(content) * share)], 20, 20)


def test_pillow_is_quiet(tmp_path, monkeypatch):
    """What it warns of is checked, and has a line of its own."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    path = save(tmp_path / "a.png", np.zeros((4, 4, 3)))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with image_pixels.suppress_pillow_warnings():
            read_image(path, (2, 2))
    assert not caught


def test_pillow_keeps_no_log(read, monkeypatch, capsys):
    monkeypatch.setattr(logging.root, "handlers", [])  # pytest's
    many = tiff(bytes(18), 2, 8, photometric=2, samples=9)
    with pytest.raises(ValueError, match="9 samples of 8 bits"), image_pixels.suppress_pillow_warnings():
        read(many, 2)
    assert capsys.readouterr().err == ""
    with pytest.raises(ValueError, match="9 samples of 8 bits"):
        read(many, 2)
    assert "samples per pixel" in capsys.readouterr().err


@pytest.mark.parametrize("channels", [1, 3])
def test_levels_are_the_callers_own(tmp_path, channels):
    """PyTorch warned of an array that cannot be written."""
    levels = read_levels(save(tmp_path / "a.png", np.full((2, 3), 51)), channels)
    assert levels.flags.writeable and levels.flags.c_contiguous and levels.shape == (channels, 2, 3)
    assert (levels == np.float32(0.2)).all()
