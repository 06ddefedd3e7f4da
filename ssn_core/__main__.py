"""`python -m ssn_core`."""

import sys

from ssn_core.cli import main

if __name__ == "__main__":
    sys.exit(main())
