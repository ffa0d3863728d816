"""Finding messages by what somebody pastes into a search field. Each way is served by an index that exists anyway."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.db.models import Q, QuerySet
from django.http import HttpRequest

from rooms.database.statements import fetch
from rooms.models import Message, Room
from rooms.protocol.serials import decode

NEWEST = 10_000  # messages whose text is looked through
MAX_FOUND = 100  # messages of different rooms may have the same id

MAX_ROOMS = 2_000  # in which a message id is looked for, of those written to last, and of those made last

# An id is unique in its room, so the index begins with the room: a probe for each room costs no index of its own, which
# accepting would pay for. Of very many rooms, those are probed in which somebody who looks for a message is likely to
# have seen it.
BY_MESSAGE_ID = """
WITH written AS (
    SELECT room_id FROM (SELECT id, room_id FROM rooms_message ORDER BY id DESC LIMIT %(newest)s) AS message
    GROUP BY room_id ORDER BY max(id) DESC LIMIT %(rooms)s
), made AS (
    SELECT id FROM rooms_room ORDER BY id DESC LIMIT %(rooms)s
)
SELECT message.id FROM (SELECT room_id FROM written UNION SELECT id FROM made) AS asked CROSS JOIN LATERAL (
    SELECT id FROM rooms_message WHERE room_id = asked.room_id AND message_id = %(term)s LIMIT 1
) AS message LIMIT %(found)s
"""


def search(request: HttpRequest, rows: QuerySet[Any], term: str, *, room: str = "") -> QuerySet[Any]:
    """Return those of the messages that a term names, the most exact meaning first: id, client, words.

    `room` is the name of the room that they are all of, where they are of one.
    """
    if not term:
        return rows
    found = find_exactly(term, room=room)
    if found:
        return rows.filter(pk__in=found)
    if Message.objects.filter(client_id=term).exists():
        return rows.filter(client_id=term)
    _warn_of_rooms(request, term, room)
    newest = Message.objects.order_by("-pk").values_list("pk", flat=True).first() or 0
    return rows.filter(pk__gt=newest - NEWEST).filter(Q(text__icontains=term))


def search_among(few: QuerySet[Any], term: str) -> QuerySet[Any]:
    """Return those of a few messages that a term names, or that say it."""
    if not term:
        return few
    named = Q(pk__in=_find_serial_or_key(term)) | Q(message_id=term) | Q(client_id=term)
    return few.filter(named | Q(text__icontains=term))


def find_or_warn(request: HttpRequest, term: str) -> list[int]:
    """Return what `find_exactly` finds; where that is nothing, the page says in how many rooms it looked."""
    found = find_exactly(term)
    if not found:
        _warn_of_rooms(request, term, "")
    return found


def find_exactly(term: str, *, room: str = "") -> list[int]:
    """Return the primary keys of the messages with this message id, serial or primary key.

    A message id is looked for in the room of that name or, without one, in MAX_ROOMS.
    """
    if not _is_id(term):
        return []
    if room:
        found = list(Message.objects.filter(room__name=room, message_id=term).values_list("pk", flat=True))
    else:
        values = {"newest": NEWEST, "rooms": MAX_ROOMS, "term": term, "found": MAX_FOUND}
        found = [key for (key,) in fetch(BY_MESSAGE_ID, **values)]
    return list(dict.fromkeys(found + _find_serial_or_key(term)))


def _find_serial_or_key(term: str) -> list[int]:
    found: list[int] = []
    serial = decode(term) if _is_id(term) else None
    if serial is not None:
        epoch, place = serial
        at_place = Q(created_serial=place) | Q(serial=place)
        rooms = list(Room.objects.filter(epoch=epoch).values_list("pk", flat=True)[:10])
        found += [key for room in rooms for key in _at(room, at_place)]
    if term.isascii() and term.isdigit() and len(term) <= 18:
        found += Message.objects.filter(pk=int(term)).values_list("pk", flat=True)
    return found


def _at(room: int, place: Q) -> list[int]:
    return list(Message.objects.filter(place, room_id=room).values_list("pk", flat=True))


def _is_id(term: str) -> bool:
    return 0 < len(term) <= 255 and "\0" not in term


def _warn_of_rooms(request: HttpRequest, term: str, room: str) -> None:
    """Tell whoever looks for a message id, which has no blanks, that not all rooms were asked."""
    if room or " " in term or not Room.objects.order_by("pk").values("pk")[MAX_ROOMS : MAX_ROOMS + 1].exists():
        return
    messages.warning(
        request,
        f"No message has the id “{term[:60]}” in the {MAX_ROOMS:,} rooms that were written to last, nor in the "
        f"{MAX_ROOMS:,} that were made last. To look in another room, choose it on the page of messages.",
    )
