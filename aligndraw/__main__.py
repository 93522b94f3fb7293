"""Makes `python -m aligndraw` the command `aligndraw`."""

import sys

from aligndraw.cli import main

if __name__ == "__main__":
    sys.exit(main())
