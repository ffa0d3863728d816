"""The indexes by which unused rooms are found and counted. They are made beside the traffic, and hold few rooms."""

from django.db import migrations, models
from django.db.models import Q

INDEXES = (("unused_after", "room_unused"), ("made_by", "room_made_by"))


def make(column: str, name: str) -> migrations.SeparateDatabaseAndState:
    """Return the operation that makes a partial index."""
    return migrations.SeparateDatabaseAndState(
        database_operations=[
            # What an interrupted attempt left is no index that anything uses.
            migrations.RunSQL(f'DROP INDEX CONCURRENTLY IF EXISTS "{name}"', migrations.RunSQL.noop),
            migrations.RunSQL(
                f'CREATE INDEX CONCURRENTLY "{name}" ON rooms_room ({column}) WHERE {column} IS NOT NULL',
                f'DROP INDEX CONCURRENTLY IF EXISTS "{name}"',
            ),
        ],
        state_operations=[
            migrations.AddIndex(
                "room", models.Index(fields=[column], condition=Q(**{f"{column}__isnull": False}), name=name)
            ),
        ],
    )


class Migration(migrations.Migration):
    atomic = False

    dependencies = [("rooms", "0004_unused_rooms")]

    operations = [make(*index) for index in INDEXES]
