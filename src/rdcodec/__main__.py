"""`python -m rdcodec` is `rdc`."""

import sys

from rdcodec.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
