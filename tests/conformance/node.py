"""Running the tests that are written for the official JavaScript SDK."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

from tests.patience import PATIENCE

HERE = Path(__file__).parent


def run(script: str, **chat: Any) -> None:
    """Run a *.test.mjs file with where the server is; fails with what Node says."""
    result = subprocess.run(
        ["node", "--test-force-exit", "--test-reporter=tap", str(HERE / script)],
        env={**os.environ, "CHAT": json.dumps({**chat, "patience": PATIENCE})},
        capture_output=True,
        text=True,
        timeout=2 * PATIENCE,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
