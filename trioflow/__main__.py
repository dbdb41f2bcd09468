"""`python -m trioflow` is the command line."""

import sys

from trioflow.cli import main

if __name__ == "__main__":
    sys.exit(main())
