"""Dates with the day before the month, hours to 24 and the zone: admins compare these with logs."""

from __future__ import annotations

DATE_FORMAT = "j M Y"
DATETIME_FORMAT = r"j M Y, H:i:s \U\T\C"
