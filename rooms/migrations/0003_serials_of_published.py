"""The indexes of serials hold published messages only.

They begin with the room, so a statement that looks a message up by its id, planned while a room was small, could
choose one of them and go on to read the whole room. The new ones are made beside the old: nobody waits for them.
"""

from django.db import migrations, models
from django.db.models import Q

CONSTRAINTS = (
    ("serial", "message_serial_once_in_a_room", "message_serial_once"),
    ("created_serial", "message_created_serial_once_in_a_room", "message_created_serial_once"),
)


def replace(column: str, old: str, new: str) -> migrations.SeparateDatabaseAndState:
    """Return the operation that makes a unique index partial."""
    return migrations.SeparateDatabaseAndState(
        database_operations=[
            # What an interrupted attempt left is no index that anything uses.
            migrations.RunSQL(f'DROP INDEX CONCURRENTLY IF EXISTS "{new}"', migrations.RunSQL.noop),
            migrations.RunSQL(
                f'CREATE UNIQUE INDEX CONCURRENTLY "{new}" ON rooms_message (room_id, {column}) '
                f"WHERE {column} IS NOT NULL",
                f'DROP INDEX CONCURRENTLY IF EXISTS "{new}"',
            ),
            migrations.RunSQL(
                f'ALTER TABLE rooms_message DROP CONSTRAINT "{old}"',
                f'ALTER TABLE rooms_message ADD CONSTRAINT "{old}" UNIQUE (room_id, {column})',
            ),
        ],
        state_operations=[
            migrations.RemoveConstraint("message", old),
            migrations.AddConstraint(
                "message",
                models.UniqueConstraint(fields=["room", column], condition=Q(**{f"{column}__isnull": False}), name=new),
            ),
        ],
    )


class Migration(migrations.Migration):
    atomic = False

    dependencies = [("rooms", "0002_occupancy")]

    operations = [replace(*constraint) for constraint in CONSTRAINTS]
