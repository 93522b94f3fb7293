#!/usr/bin/env bash
# Pillow scrambles an uncompressed TIFF with Orientation 6 that is opened by name, and not one that is opened as a file.
#
# Guess: Image.open gives the same pixels for a path and for an open file.
# Behaviour of Pillow 13.0.0: by path the pixels are turned before they are put into rows, so that the picture is mixed up.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check pillow==13.0.0 numpy==2.4.6
cd "$folder"
"$folder/venv/bin/python" - <<'PY'
import numpy as np
import PIL
from PIL import Image

stored = np.array([[20, 40, 60], [80, 100, 120]], np.uint8)
turned = np.rot90(stored, -1)  # what Orientation 6 asks for
Image.fromarray(stored).save("a.tiff", tiffinfo={274: 6})
by_path = np.asarray(Image.open("a.tiff"))
with open("a.tiff", "rb") as file:
    as_file = np.asarray(Image.open(file))
print("Pillow", PIL.__version__)
print("wanted", turned.tolist())
print("opened as a file", as_file.tolist())
print("opened by path", by_path.tolist())
assert np.array_equal(as_file, turned), "a file object now gives other pixels"
assert not np.array_equal(by_path, turned), "a path now gives the right pixels"
PY
