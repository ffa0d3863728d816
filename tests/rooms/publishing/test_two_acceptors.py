"""Two processes that accept into the same rooms at once, the same message ids among them."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from itertools import islice
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from django.db import connection

from rooms.models import Message, Room
from tests.patience import PATIENCE

ROOT = Path(__file__).resolve().parents[3]
ROOMS, SHARED, OWN = 6, 300, 300  # rooms, ids that both processes publish, ids of each alone
Line = list[Any]  # room id, room, message id, author, text


def start() -> subprocess.Popen[str]:
    database = urlsplit(os.environ["DATABASE_URL"])._replace(path=f"/{connection.settings_dict['NAME']}").geturl()
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.rooms.accepting_process"],
        cwd=ROOT,
        env=os.environ | {"DATABASE_URL": database, "DJANGO_SETTINGS_MODULE": "chatsite.settings"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    return process


def lines_of(process: int, rooms: list[Room], chance: random.Random) -> list[Line]:
    """What a process publishes: its own messages in order of their texts, with those of both strewn in."""
    own = [("own", number) for number in range(OWN)]
    both = [("both", number) for number in range(SHARED)]
    chance.shuffle(both)
    lines = []
    while own or both:
        kind, number = (own if (chance.random() < 0.5 and own) or not both else both).pop(0)
        room = rooms[number % ROOMS]
        by = f"process {process}" if kind == "own" else f"both {number % 7}"
        lines.append([room.pk, room.name, f"{by}-{number}" if kind == "own" else f"both-{number}", by, f"{number:04d}"])
    return lines


def batches_of(lines: list[Line], chance: random.Random) -> list[list[Line]]:
    rest = iter(lines)
    batches = []
    while batch := list(islice(rest, chance.randint(1, 40))):
        batches.append(batch)
    return batches


@pytest.mark.django_db(transaction=True)
def test_processes_that_accept_the_same_ids_at_once_agree_and_leave_no_gap() -> None:
    rooms = [Room.objects.create(name=f"shared-{number}") for number in range(ROOMS)]
    chance = random.Random(7)
    lines = [lines_of(process, rooms, chance) for process in range(2)]
    processes = [start() for _ in lines]
    for process in processes:
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
    for process, asked in zip(processes, lines, strict=True):
        assert process.stdin is not None
        process.stdin.write(json.dumps(batches_of(asked, chance)) + "\n")
        process.stdin.flush()
    said = [json.loads(process.communicate(timeout=PATIENCE)[0]) for process in processes]

    told: dict[tuple[int, str], set[tuple[int, str]]] = {}
    for asked, answers in zip(lines, said, strict=True):
        for line, (message, serial) in zip(asked, answers, strict=True):
            told.setdefault((line[0], line[2]), set()).add((message, serial))
    assert len(told) == SHARED + 2 * OWN
    assert all(len(answers) == 1 for answers in told.values()), "the second publish gets the first one's answer"
    for room in rooms:
        room.refresh_from_db()
        stored = list(Message.objects.filter(room=room).order_by("serial"))
        assert [message.serial for message in stored] == list(range(1, room.head + 1))
        assert {(message.pk, message.wire_serial) for message in stored} == {
            answer for (room_id, _), answers in told.items() if room_id == room.pk for answer in answers
        }
        for author in ("process 0", "process 1"):
            texts = [message.text for message in stored if message.author == author]
            assert texts == sorted(texts, key=str) and len(texts) == OWN / ROOMS
