"""``python -m pycnn`` is the command ``pycnn``."""

import sys

from pycnn.cli import main

sys.exit(main())
