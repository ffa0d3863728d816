"""Finding messages by what somebody pastes into a search field. Each way is served by an index that exists anyway."""

from __future__ import annotations

from typing import Any

from django.db import connection
from django.db.models import Q, QuerySet

from rooms.models import Message, Room
from rooms.protocol.serials import decode

NEWEST = 10_000  # messages whose text is looked through
MAX_FOUND = 100  # messages of different rooms may have the same id

# An id is unique in its room, so the index begins with the room: one probe for each room costs no index of its own.
BY_MESSAGE_ID = """
SELECT message.id FROM rooms_room AS room CROSS JOIN LATERAL (
    SELECT id FROM rooms_message WHERE room_id = room.id AND message_id = %s LIMIT 1
) AS message LIMIT %s
"""


def search(messages: QuerySet[Any], term: str) -> QuerySet[Any]:
    """Return those of the messages that a term names, the most exact meaning first: id, client, words."""
    if not term:
        return messages
    found = find_exactly(term)
    if found:
        return messages.filter(pk__in=found)
    if Message.objects.filter(client_id=term).exists():
        return messages.filter(client_id=term)
    newest = Message.objects.order_by("-pk").values_list("pk", flat=True).first() or 0
    return messages.filter(pk__gt=newest - NEWEST).filter(Q(text__icontains=term))


def search_among(few: QuerySet[Any], term: str) -> QuerySet[Any]:
    """Return those of a few messages that a term names, or that say it."""
    if not term:
        return few
    named = Q(pk__in=find_exactly(term)) | Q(client_id=term)
    return few.filter(named | Q(text__icontains=term))


def find_exactly(term: str) -> list[int]:
    """Return the primary keys of the messages with this message id, serial or primary key."""
    if "\0" in term or len(term) > 255:
        return []
    with connection.cursor() as cursor:
        cursor.execute(BY_MESSAGE_ID, [term, MAX_FOUND])
        found = [key for (key,) in cursor.fetchall()]
    serial = decode(term)
    if serial is not None:
        epoch, place = serial
        at_place = Q(created_serial=place) | Q(serial=place)
        rooms = list(Room.objects.filter(epoch=epoch).values_list("pk", flat=True)[:10])
        found += [key for room in rooms for key in _at(room, at_place)]
    if term.isascii() and term.isdigit() and len(term) <= 18:
        found += Message.objects.filter(pk=int(term)).values_list("pk", flat=True)
    return list(dict.fromkeys(found))


def _at(room: int, place: Q) -> list[int]:
    return list(Message.objects.filter(place, room_id=room).values_list("pk", flat=True))
