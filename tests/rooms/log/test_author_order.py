"""The order of an author's messages: its table of cases, and that no batching changes what it comes to."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rooms.log.author_order import UNDECIDED, OldestOther, author_of, find_ready, find_ready_among
from rooms.models import Message, Status

LETTERS = {
    "w": Status.ACCEPTED,  # waits for a verdict
    "a": Status.APPROVED,
    "h": Status.HELD,
    "r": Status.REJECTED,
    "p": Status.PUBLISHED,
}


@dataclass
class Line:
    """A message in its author's line."""

    id: int
    author: str
    status: Status
    room_id: int = 1


def line(text: str) -> list[Line]:
    """Return the messages that a text names: small letters are alice's, capitals bob's."""
    authors = ["alice" if letter.islower() else "bob" for letter in text]
    return [Line(place, authors[place], LETTERS[letter.lower()]) for place, letter in enumerate(text)]


@pytest.mark.parametrize(
    ("messages", "ready"),
    [
        ("", []),
        ("a", [0]),
        ("w", []),
        ("aa", [0, 1]),
        ("wa", []),
        ("aawa", [0, 1]),
        ("ha", [1]),
        ("ra", [1]),
        ("pa", [1]),
        ("hwa", []),
        ("Wa", [1]),
        ("AwAa", [0, 2]),
        ("wAaA", [1, 3]),
    ],
)
def test_a_message_is_ready_when_nothing_undecided_of_its_author_is_older(messages: str, ready: list[int]) -> None:
    assert [message.id for message in find_ready(line(messages))] == ready


def test_authors_of_other_rooms_are_others() -> None:
    waiting, elsewhere = Line(0, "alice", Status.ACCEPTED), Line(1, "alice", Status.APPROVED, room_id=2)
    assert find_ready([waiting, elsewhere]) == [elsewhere]


def test_older_messages_that_are_not_shown_block_their_author() -> None:
    assert [one.id for one in find_ready(line("aA"), blocked={(1, "alice")})] == [1]


@pytest.mark.parametrize(
    ("known", "other", "ready", "unclear"),
    [
        ({0: "a"}, None, [0], False),  # nothing else of this author is undecided
        ({0: "a", 2: "a"}, (1, "w"), [0], False),  # one in between still waits
        ({1: "a"}, (0, "w"), [], False),  # an older one still waits
        ({0: "a"}, (1, "a"), [], True),  # one behind was approved earlier: it may be ready, and more behind it
        ({0: "w"}, (1, "a"), [], True),
        ({0: "r"}, (1, "a"), [], True),
    ],
)
def test_what_decisions_know_of_a_line_tells_what_is_ready_or_that_it_must_be_read(
    known: dict[int, str], other: tuple[int, str] | None, ready: list[int], unclear: bool
) -> None:
    messages = [Line(id_, "alice", LETTERS[letter]) for id_, letter in known.items()]
    others = {} if other is None else {(1, "alice"): OldestOther(other[0], LETTERS[other[1]])}
    found, must_read = find_ready_among(reversed(messages), others)
    assert ([one.id for one in found], must_read) == (ready, {(1, "alice")} if unclear else set())


def test_the_index_and_the_statements_mean_the_same_messages_by_undecided() -> None:
    index = next(index for index in Message._meta.indexes if index.name == "message_undecided")
    assert index.condition is not None
    assert dict([index.condition.children[0]]) == {"status__in": [status.value for status in UNDECIDED]}


# --- A room in memory: accepting and deciding in batches ---------------------------------------------------


class Room:
    """What Postgres keeps, for one room: messages in order of acceptance, and the order of publishing."""

    def __init__(self) -> None:
        self.messages: list[Line] = []
        self.published: list[Line] = []

    def accept(self, batch: list[tuple[str, Status]]) -> None:
        blocked = {author_of(one) for one in self.messages if one.status in UNDECIDED}
        new = [Line(len(self.messages) + place, author, status) for place, (author, status) in enumerate(batch)]
        self.messages += new
        self._publish(find_ready(new, blocked=blocked))

    def decide(self, batch: list[tuple[int, Status]]) -> None:
        """Apply verdicts to messages that wait for one, by their place among these."""
        decided = []
        for place, status in batch:
            waiting = [one for one in self.messages if one.status == Status.ACCEPTED]
            if waiting:
                waiting[place % len(waiting)].status = status
                decided.append(waiting[place % len(waiting)])
        ids = {one.id for one in decided}
        others: dict[tuple[int, str], OldestOther] = {}
        for one in self.messages:
            if one.status in UNDECIDED and one.id not in ids:
                others.setdefault(author_of(one), OldestOther(one.id, one.status))
        authors = {author_of(one) for one in decided}
        others = {author: other for author, other in others.items() if author in authors}
        ready, unclear = find_ready_among(decided, others)
        lines = [one for one in self.messages if author_of(one) in unclear and one.status in UNDECIDED]
        self._publish(sorted(ready + find_ready(lines), key=lambda one: one.id))

    def _publish(self, ready: list[Line]) -> None:
        for one in ready:
            assert one.status == Status.APPROVED
            one.status = Status.PUBLISHED
            self.published.append(one)


authors = st.sampled_from(["alice", "bob", "carol"])
batches = st.lists(
    st.one_of(
        st.tuples(
            st.just("accept"),
            st.lists(st.tuples(authors, st.sampled_from(list(LETTERS.values())[:4])), min_size=1, max_size=5),
        ),
        st.tuples(
            st.just("decide"),
            st.lists(
                st.tuples(st.integers(0, 9), st.sampled_from([Status.APPROVED, Status.HELD, Status.REJECTED])),
                min_size=1,
                max_size=5,
            ),
        ),
    ),
    max_size=12,
)


@given(batches=batches)
def test_messages_of_an_author_are_published_in_order_of_acceptance_and_none_waits_in_vain(
    batches: list[tuple[str, list[tuple[str, Status]]]],
) -> None:
    room = Room()
    for kind, batch in batches:
        getattr(room, kind)(batch)
        for author in {one.author for one in room.messages}:
            ids = [one.id for one in room.published if one.author == author]
            assert ids == sorted(ids)
        waiting: set[str] = set()
        for one in room.messages:
            waiting |= {one.author} if one.status == Status.ACCEPTED else set()
            assert one.status != Status.APPROVED or one.author in waiting, "it was ready, and was not published"
