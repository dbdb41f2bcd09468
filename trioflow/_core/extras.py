"""Libraries of extras, imported when one is first needed."""

from __future__ import annotations

import importlib
from typing import Any


def import_extra(name: str, module: str, extra: str) -> Any:
    """Import and return `module`, which `name` needs.

    Raises:
        ImportError: it is not installed. The message names the extra of trioflow to install.
    """
    try:
        return importlib.import_module(module)
    except ImportError as exc:
        raise ImportError(f"{name} needs {module}: pip install 'trioflow[{extra}]'") from exc
