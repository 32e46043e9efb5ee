"""benchmarks/published_tables.py as a module, without its folder in the search path: it would hide libraries."""

import importlib.util
import sys
from pathlib import Path

_SCRIPT = Path(__file__).parent.parent / "benchmarks" / "published_tables.py"
_SPEC = importlib.util.spec_from_file_location("published_tables", _SCRIPT)
assert _SPEC is not None and _SPEC.loader is not None
published_tables = sys.modules["published_tables"] = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(published_tables)
