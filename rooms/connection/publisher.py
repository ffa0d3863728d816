"""A connection's publishes: from MESSAGE to ACK or NACK, in the order in which they came."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence

from django.conf import settings

from rooms import faults
from rooms.errors import ChatError, Code
from rooms.log.content import Draft
from rooms.protocol.wire import Action, ErrorInfo, ProtocolMessage, PublishResult
from rooms.publishing.acceptor import Acceptor
from rooms.publishing.drafts import first_refusal
from rooms.publishing.pending_outcomes import FinalOutcomes

PublishReply = PublishResult | ChatError


class Publisher:
    """The publishes of one connection that are not acknowledged yet.

    The protocol counts acknowledgements (`msgSerial`), so one may not overtake another: an answer waits until
    all before it are there, and goes out with those that follow it.
    """

    __slots__ = ("_acceptor", "_closed", "_flushing", "_reply", "_room_again", "_unacked")

    def __init__(self, acceptor: Acceptor, reply: Callable[[ProtocolMessage], None]) -> None:
        self._acceptor = acceptor
        self._reply = reply
        # msgSerial, and its answer once there. None while there are none: most members never publish, and are many.
        self._unacked: deque[tuple[int, list[PublishReply]]] | None = None
        self._room_again: asyncio.Event | None = None
        self._flushing = False
        self._closed = False

    @property
    def is_idle(self) -> bool:
        """Whether no publish waits for its answer."""
        return not self._unacked

    async def has_room(self) -> None:
        """Wait until another publish may be taken: a client that floods is read no faster than it is served."""
        while len(self._unacked or ()) >= settings.CONNECTION_MAX_UNACKED and not self._closed:
            self._room_again = self._room_again or asyncio.Event()
            self._room_again.clear()
            await self._room_again.wait()

    def publish(self, msg_serial: int, drafts: Sequence[Draft]) -> None:
        """Hand drafts on; the ACK or NACK follows by itself."""
        answer = self._expect(msg_serial)
        try:
            outcomes = self._acceptor.submit(drafts)
        except ChatError as error:
            self._answer(answer, error)
        else:
            outcomes.add_done_callback(lambda decided: self._answer(answer, _answer_of(decided)))

    def refuse(self, msg_serial: int, error: ChatError) -> None:
        """Refuse a publish that cannot be taken, in its turn."""
        self._answer(self._expect(msg_serial), error)

    def close(self) -> None:
        """Forget who waits; what was accepted goes on without."""
        self._closed = True
        self._unacked = None
        self._wake()

    def _expect(self, msg_serial: int) -> list[PublishReply]:
        answer: list[PublishReply] = []
        if self._unacked is None:
            self._unacked = deque()
        self._unacked.append((msg_serial, answer))
        return answer

    def _wake(self) -> None:
        if self._room_again is not None:
            self._room_again.set()

    def _answer(self, answer: list[PublishReply], what: PublishReply) -> None:
        answer.append(what)
        if not self._closed and not self._flushing:
            # A batch answers many publishes of a connection in one turn of the loop: they go out as one ACK.
            self._flushing = True
            asyncio.get_running_loop().call_soon(self._flush)

    def _flush(self) -> None:
        """Send what is answered at the head of the line: neighbouring ACKs as one."""
        self._flushing = False
        while self._unacked and self._unacked[0][1]:
            first, answer = self._unacked[0]
            if isinstance(answer[0], ChatError):
                self._unacked.popleft()
                info = ErrorInfo.of(answer[0])
                self._reply(ProtocolMessage(action=Action.NACK, msg_serial=first, count=1, error=info))
                continue
            results: list[PublishResult] = []
            while self._unacked and self._unacked[0][1] and self._unacked[0][0] == first + len(results):
                result = self._unacked[0][1][0]
                if isinstance(result, ChatError):
                    break
                results.append(result)
                self._unacked.popleft()
            self._reply(ProtocolMessage(action=Action.ACK, msg_serial=first, count=len(results), res=results))
        self._wake()


def _answer_of(decided: FinalOutcomes) -> PublishReply:
    """Return one publish's answer: the first refusal among its messages, else all serials."""
    if decided.cancelled():
        return ChatError(Code.UNAVAILABLE, "The server is stopping; publish the message again.")
    failure = decided.exception()
    if isinstance(failure, ChatError):
        return failure
    if failure is not None:
        faults.record("answering a publish", failure)
        return ChatError(Code.INTERNAL, "The message could not be published.")
    outcomes = decided.result()
    refusal = first_refusal(outcomes)
    return refusal if refusal is not None else PublishResult(serials=[outcome.serial for outcome in outcomes])
