"""The application that servers import."""

from __future__ import annotations

import subprocess
import sys

from tests.instance import ROOT


def test_all_addresses_and_the_admin_pages_are_loaded_before_the_first_request() -> None:
    program = (
        "import sys, chatsite.asgi; print({'chatsite.urls', 'rooms.admin', 'integrations.rest.urls'} - {*sys.modules})"
    )
    result = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)

    assert result.stdout == "set()\n"
