"""`python -m lit_rlhf COMMAND ...`."""

import sys

from lit_rlhf.cli import main

if __name__ == "__main__":
    sys.exit(main())
