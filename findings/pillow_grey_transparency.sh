#!/usr/bin/env bash
# Pillow loses the transparent shade of a grey PNG with 2 or 4 bits per pixel.
#
# Guess: convert("RGBA") gives alpha 0 to the shade that the file's tRNS chunk names, at any bit depth.
# Behaviour of Pillow 13.0.0: it scales the pixels to 0…255 and leaves the transparent shade as stored, so no pixel matches
# and the whole picture is opaque. With 1 bit it scales both.
# Output seen: 1 bit [0, 255], 2 bits [255, 255, 255, 255], 4 bits [255, 255, 255, 255].
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check pillow==13.0.0
cd "$folder"
"$folder/venv/bin/python" - <<'PY'
import io
import struct
import zlib

import PIL
from PIL import Image


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def grey_png(bits, shades, transparent):
    """One row of `shades`, `bits` per pixel, high bits first; a row fills whole bytes."""
    row = sum(shade << bits * (len(shades) - 1 - i) for i, shade in enumerate(shades))
    packed = b"\0" + row.to_bytes(len(shades) * bits // 8, "big")  # filter 0, then the pixels
    header = struct.pack(">IIBBBBB", len(shades), 1, bits, 0, 0, 0, 0)
    return b"".join(
        [
            b"\x89PNG\r\n\x1a\n",
            chunk(b"IHDR", header),
            chunk(b"tRNS", struct.pack(">H", transparent)),
            chunk(b"IDAT", zlib.compress(packed)),
            chunk(b"IEND", b""),
        ]
    )


print("Pillow", PIL.__version__)
alphas = {}
for bits, shades, transparent in ((1, [1, 0] * 4, 1), (2, [0, 1, 2, 3], 2), (4, [5, 10, 15, 0], 10)):
    image = Image.open(io.BytesIO(grey_png(bits, shades, transparent)))
    grey = list(image.convert("L").tobytes())
    alphas[bits] = list(image.convert("RGBA").getchannel("A").tobytes())
    wanted = [0 if shade == transparent else 255 for shade in shades]
    print(f"{bits} bits: pixels {grey}, transparent {image.info['transparency']}, wanted alpha {wanted}, got {alphas[bits]}")
assert alphas[1] == [0, 255] * 4, "1 bit now differs"
assert alphas[2] == [255] * 4, "2 bits now differ"
assert alphas[4] == [255] * 4, "4 bits now differ"
PY
