"""`python -m lrjax` is the command `lrjax`."""

import sys

from lrjax.commands import main

if __name__ == "__main__":
    sys.exit(main())
