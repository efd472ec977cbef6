"""Write docs/features.md from the declarations: ``python -m feature_store docs/features.md``."""

from __future__ import annotations

import sys
from pathlib import Path

from feature_store.definitions import docs_table

_HEAD = """# Customer features

Made by `make docs` from `feature_store/definitions.py`; do not edit. Values are read as of now, or after a historical
import as of its last event. `purpose` is the consent purpose that a feature serves, `privacy` its class.

"""

Path(sys.argv[1]).write_text(_HEAD + docs_table())
