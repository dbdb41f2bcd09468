"""check.py as a test, on request, because it creates an environment and needs the network."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.skipif("TRIOFLOW_NETWORK" not in os.environ, reason="needs the network: set TRIOFLOW_NETWORK=1")
def test_a_program_type_checks_with_trio_typing_installed() -> None:
    subprocess.run([sys.executable, Path(__file__).with_name("check.py")], check=True)
