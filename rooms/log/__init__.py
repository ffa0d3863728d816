"""The log of a room: rows, entries, serials, and the announcements of what was committed. The truth."""
