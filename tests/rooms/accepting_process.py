"""A process of its own that accepts the batches which it reads, and says what became of each message.

One JSON list of batches on stdin, a message as [room id, room, message id, author, text]; one of outcomes on stdout.
"""

from __future__ import annotations

import json
import sys

import django

django.setup()

from django.utils import timezone  # noqa: E402

from rooms.log import announce  # noqa: E402
from rooms.log.content import Content, Draft  # noqa: E402
from rooms.publishing.accept import accept  # noqa: E402


class Silent(announce.Announcer):
    """Tells nobody."""

    def __init__(self) -> None:
        pass

    def announce(self, entries: object, news: object) -> None:
        """Do nothing."""


def main() -> None:
    """Say that all is ready, then accept what is asked."""
    announce.bind(Silent())
    print("ready", flush=True)
    said = []
    for batch in json.loads(sys.stdin.readline()):
        drafts = [
            Draft(
                room_id=room_id,
                room=room,
                message_id=message_id,
                author=author,
                client_id=None,
                connection_id=None,
                content=Content(text=text),
            )
            for room_id, room, message_id, author, text in batch
        ]
        said += [[outcome.message, outcome.serial] for outcome in accept(drafts, now=timezone.now())]
    print(json.dumps(said), flush=True)


if __name__ == "__main__":
    main()
