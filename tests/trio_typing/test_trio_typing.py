"""The check of check.py as a test, where asked: it makes an environment, and needs the network for it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.skipif("TRIOFLOW_NETWORK" not in os.environ, reason="needs the network: set TRIOFLOW_NETWORK=1")
def test_a_program_is_well_typed_where_trio_typing_is_installed() -> None:
    subprocess.run([sys.executable, Path(__file__).with_name("check.py")], check=True)
