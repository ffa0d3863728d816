"""The logs of rooms, the truth of the app: rows, serials, reading, changing, and announcements after commits."""
