"""The libraries of extras, imported when something first needs one."""

from __future__ import annotations

import importlib
from typing import Any


def import_extra(name: str, module: str, extra: str) -> Any:
    """Import `module` for `name`, or say which extra of trioflow brings it.

    Raises:
        ImportError: it is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as exc:
        raise ImportError(f"{name} needs {module}: pip install 'trioflow[{extra}]'") from exc
