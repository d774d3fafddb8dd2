"""`python -m blazing_nb`: the command line without the script on the PATH."""

from __future__ import annotations

import sys

from blazing_nb.cli import main

if __name__ == "__main__":
    sys.exit(main())
