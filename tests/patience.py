"""How long tests wait for what must come: only against hanging for ever. No test says by it how fast something is."""

from __future__ import annotations

PATIENCE = 180.0  # seconds; more than what must come takes on a machine that is busy with something else
