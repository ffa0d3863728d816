"""Checks the messages of a publish, and turns them into drafts: all of them or none."""

from __future__ import annotations

from collections.abc import Sequence

from django.conf import settings

from rooms.access.grants import Grant
from rooms.errors import ChatError, Code
from rooms.log.content import Draft
from rooms.log.directory import RoomRef
from rooms.log.outcomes import Outcome, OutcomeKind
from rooms.protocol.wire import Message
from rooms.publishing.payload import CLIENT_ID_MAX_CHARACTERS, ID_MAX_CHARACTERS, read_content, require_text

Publish = Sequence[Draft]  # the drafts of one publish, for one room; accepted in one transaction


def drafts_of(
    messages: Sequence[Message], room: RoomRef, grant: Grant, *, base_id: str, connection_id: str | None, origin: str
) -> list[Draft]:
    """Return the drafts of a publish's messages. Raises ChatError if any of them cannot be published.

    A message without an id gets `base_id:place`, the same when the publish is repeated.
    """
    if not messages:
        raise ChatError(Code.INVALID_BODY, "A publish has at least one message.")
    if len(messages) > settings.PUBLISH_MAX_MESSAGES:
        raise ChatError(
            Code.TOO_MANY_MESSAGES, f"One publish has at most {settings.PUBLISH_MAX_MESSAGES} messages; split it."
        )
    return [
        _draft(message, room, grant, f"{base_id}:{place}", connection_id=connection_id, origin=origin)
        for place, message in enumerate(messages)
    ]


def _draft(
    message: Message, room: RoomRef, grant: Grant, own_id: str, *, connection_id: str | None, origin: str
) -> Draft:
    if message.action:
        raise ChatError(Code.BAD_REQUEST, "Editing and deleting messages is not offered over this interface.")
    if message.id is not None:
        require_text_of(message.id, "message id", ID_MAX_CHARACTERS, Code.INVALID_MESSAGE_ID)
    client_id = grant.author_for(message.client_id)
    if message.client_id is not None:
        require_text_of(message.client_id, "client id", CLIENT_ID_MAX_CHARACTERS, Code.INVALID_CLIENT_ID)
    return Draft(
        room_id=room.id,
        room=room.name,
        message_id=message.id or own_id,
        author=f"client:{client_id}" if client_id else f"connection:{connection_id or grant.key_name}",
        client_id=client_id,
        connection_id=connection_id,
        content=read_content(message, max_bytes=settings.MESSAGE_MAX_BYTES),
        origin=origin,
    )


def require_text_of(text: str, label: str, max_characters: int, code: Code) -> None:
    """Raise ChatError `code` for a text that cannot be stored."""
    try:
        require_text(label, text, max_characters)
    except ChatError as error:
        raise ChatError(code, error.message) from None


def first_refusal(outcomes: Sequence[Outcome]) -> ChatError | None:
    """Return the error of the first rejected message of a publish; None if none was rejected."""
    errors = (outcome.error for outcome in outcomes if outcome.kind is OutcomeKind.REJECTED)
    return next((error for error in errors if error is not None), None)
