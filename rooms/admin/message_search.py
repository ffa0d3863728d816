"""Finds messages by the text of a search field: an id, a client, or words. Uses only indexes that exist anyway."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.db.models import Q, QuerySet
from django.http import HttpRequest

from rooms.database.statements import fetch
from rooms.models import Message, Room
from rooms.protocol.serials import decode

NEWEST = 10_000  # messages whose text is searched
MAX_FOUND = 100  # messages of different rooms may have the same id

MAX_ROOMS = 2_000  # that are searched for a message id: so many written to last, and so many made last

# Ids are unique in a room, so the index begins with the room: one probe a room needs no further index, which accepting
# would have to maintain. Among very many rooms, the most recent ones are the likeliest to hold the message.
BY_MESSAGE_ID = """
WITH written AS (
    SELECT room_id FROM (SELECT id, room_id FROM rooms_message ORDER BY id DESC LIMIT %(newest)s) AS message
    GROUP BY room_id ORDER BY max(id) DESC LIMIT %(rooms)s
), made AS (
    SELECT id FROM rooms_room ORDER BY id DESC LIMIT %(rooms)s
)
SELECT message.id FROM (SELECT room_id FROM written UNION SELECT id FROM made) AS searched CROSS JOIN LATERAL (
    SELECT id FROM rooms_message WHERE room_id = searched.room_id AND message_id = %(term)s LIMIT 1
) AS message LIMIT %(found)s
"""


def search(request: HttpRequest, rows: QuerySet[Any], term: str, *, room: str = "") -> QuerySet[Any]:
    """Return the messages that a term finds: by id, else by client, else by words.

    `room` is the name of the room that all `rows` belong to, if they belong to one.
    """
    if not term:
        return rows
    keys = find_exactly(term, room=room)
    if keys:
        return rows.filter(pk__in=keys)
    if Message.objects.filter(client_id=term).exists():
        return rows.filter(client_id=term)
    _warn_of_rooms(request, term, room)
    newest = Message.objects.order_by("-pk").values_list("pk", flat=True).first() or 0
    return rows.filter(pk__gt=newest - NEWEST).filter(Q(text__icontains=term))


def search_among(few: QuerySet[Any], term: str) -> QuerySet[Any]:
    """Return those of a few messages whose id, client or text a term matches."""
    if not term:
        return few
    named = Q(pk__in=_find_serial_or_key(term)) | Q(message_id=term) | Q(client_id=term)
    return few.filter(named | Q(text__icontains=term))


def find_or_warn(request: HttpRequest, term: str) -> list[int]:
    """Return what `find_exactly` finds; if that is nothing, show on the page how many rooms were searched."""
    keys = find_exactly(term)
    if not keys:
        _warn_of_rooms(request, term, "")
    return keys


def find_exactly(term: str, *, room: str = "") -> list[int]:
    """Return the primary keys of the messages with this message id, serial or primary key.

    A message id is searched in the room named `room` or, without a name, in MAX_ROOMS.
    """
    if not _is_id(term):
        return []
    if room:
        keys = list(Message.objects.filter(room__name=room, message_id=term).values_list("pk", flat=True))
    else:
        values = {"newest": NEWEST, "rooms": MAX_ROOMS, "term": term, "found": MAX_FOUND}
        keys = [key for (key,) in fetch(BY_MESSAGE_ID, **values)]
    return list(dict.fromkeys(keys + _find_serial_or_key(term)))


def _find_serial_or_key(term: str) -> list[int]:
    keys: list[int] = []
    serial = decode(term) if _is_id(term) else None
    if serial is not None:
        epoch, place = serial
        at_place = Q(created_serial=place) | Q(serial=place)
        rooms = list(Room.objects.filter(epoch=epoch).values_list("pk", flat=True)[:10])
        keys += [key for room in rooms for key in _at(room, at_place)]
    if term.isascii() and term.isdigit() and len(term) <= 18:
        keys += Message.objects.filter(pk=int(term)).values_list("pk", flat=True)
    return keys


def _at(room: int, place: Q) -> list[int]:
    return list(Message.objects.filter(place, room_id=room).values_list("pk", flat=True))


def _is_id(term: str) -> bool:
    return 0 < len(term) <= 255 and "\0" not in term


def _warn_of_rooms(request: HttpRequest, term: str, room: str) -> None:
    """Show on the page that not all rooms were searched for a term that may be a message id (it has no blanks)."""
    if room or " " in term or not Room.objects.order_by("pk").values("pk")[MAX_ROOMS : MAX_ROOMS + 1].exists():
        return
    messages.warning(
        request,
        f"No message has the id “{term[:60]}” in the {MAX_ROOMS:,} rooms that were written to last, nor in the "
        f"{MAX_ROOMS:,} that were made last. To look in another room, choose it on the page of messages.",
    )
