#!/usr/bin/env bash
# np.save and ndarray.tofile report success when the file cannot hold the end of the array.
#
# Guess: a write that the system refuses raises OSError, as file.write does.
# Behaviour of numpy 2.4.6: an array whose last bytes still lie in the C library's buffer is cut off without an error.
# The file limit stands for a full disk, which does the same.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check numpy==2.4.6
cd "$folder"
"$folder/venv/bin/python" - <<'PY'
import os
import resource
import signal

import numpy as np

array = np.arange(400, dtype=np.int32)  # 1,600 bytes
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # the refused write then returns an error to its caller
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))
print("numpy", np.__version__)
for name, write in (("np.save", lambda: np.save("a.npy", array)), ("ndarray.tofile", lambda: array.tofile("a.npy"))):
    write()
    size = os.path.getsize("a.npy")
    print(f"{name}: no error, {size} bytes of at least {array.nbytes} written")
    assert size == 1000, f"{name} now writes {size} bytes"
with open("b.npy", "wb", buffering=0) as file:
    written = file.write(array.tobytes())
    print(f"file.write: says that it wrote {written} bytes")
    assert written == 1000
    try:
        file.write(b"x")
        raise SystemExit("file.write now raises no error")
    except OSError as error:
        print(f"file.write again: {error}")
PY
