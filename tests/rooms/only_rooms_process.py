"""A process in which the app `rooms` is alone: it makes its tables, publishes, decides and reads what came of it."""

from __future__ import annotations

import asyncio
import json

import django

django.setup()

from django.apps import apps  # noqa: E402
from django.core.management import call_command  # noqa: E402
from django.utils import timezone  # noqa: E402

from rooms.database import threads  # noqa: E402
from rooms.log import directory, reading  # noqa: E402
from rooms.log.content import Content, Draft  # noqa: E402
from rooms.publishing.acceptor import Acceptor  # noqa: E402
from rooms.review.contract import Decision, Verdict, VerdictAction  # noqa: E402
from rooms.review.deadlines import expire  # noqa: E402
from rooms.review.decide import decide  # noqa: E402


async def main() -> None:
    """Say what became of one message, and of a verdict on a message that there is not."""
    await threads.run(call_command, "migrate", verbosity=0)
    room = await threads.run(directory.find_or_make, "lobby")
    draft = Draft(
        room_id=room.id,
        room=room.name,
        message_id="first",
        author="client:alice",
        client_id="alice",
        connection_id=None,
        content=Content(text="hello"),
    )
    acceptor = Acceptor()
    outcomes = await acceptor.submit([draft])
    await acceptor.close()
    decision = Decision(message=10**9, awaiting="nobody:1", verdict=Verdict(action=VerdictAction.PUBLISH))
    decided = await threads.run(decide, [decision], now=timezone.now())
    await threads.run(expire)
    entries, _ = await threads.run(reading.read_after, room, 0, 10)
    said = {
        "apps": [app.label for app in apps.get_app_configs()],
        "accepted": [outcome.kind for outcome in outcomes],
        "decided": [outcome.kind for outcome in decided],
        "log": [entry.wire.data for entry in entries],
    }
    print(json.dumps(said), flush=True)


if __name__ == "__main__":
    asyncio.run(main())
