"""The pure modules of the page, tested by Node."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.patience import PATIENCE

HERE = Path(__file__).parent


def test_the_modules_hold_what_their_tests_say() -> None:
    files = sorted(str(path) for path in HERE.glob("*.test.mjs"))
    result = subprocess.run(["node", "--test", *files], capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert result.returncode == 0, result.stdout
