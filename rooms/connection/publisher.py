"""Hands a connection's publishes to the acceptor, and answers them with ACK or NACK in their order."""

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

    The protocol counts acknowledgements (`msgSerial`), so none may overtake another: an answer waits until all earlier
    ones are there, and is sent together with those that follow.
    """

    __slots__ = ("_acceptor", "_capacity", "_closed", "_flushing", "_reply", "_unacked")

    def __init__(self, acceptor: Acceptor, reply: Callable[[ProtocolMessage], None]) -> None:
        self._acceptor = acceptor
        self._reply = reply
        # msgSerial, and a list for its answer. None before the first publish: most members never publish.
        self._unacked: deque[tuple[int, list[PublishReply]]] | None = None
        self._capacity: asyncio.Event | None = None
        self._flushing = False
        self._closed = False

    @property
    def is_idle(self) -> bool:
        """Whether no publish waits for its ACK or NACK."""
        return not self._unacked

    async def wait_for_capacity(self) -> None:
        """Wait until less than CONNECTION_MAX_UNACKED publishes are unanswered; meanwhile the client is not read."""
        while len(self._unacked or ()) >= settings.CONNECTION_MAX_UNACKED and not self._closed:
            self._capacity = self._capacity or asyncio.Event()
            self._capacity.clear()
            await self._capacity.wait()

    def publish(self, msg_serial: int, drafts: Sequence[Draft]) -> None:
        """Submit the drafts of a publish; its ACK or NACK is sent later."""
        answer = self._expect(msg_serial)
        try:
            outcomes = self._acceptor.submit(drafts)
        except ChatError as error:
            self._answer(answer, error)
        else:
            outcomes.add_done_callback(lambda decided: self._answer(answer, _answer_of(decided)))

    def refuse(self, msg_serial: int, error: ChatError) -> None:
        """Answer a publish with a NACK, in its turn."""
        self._answer(self._expect(msg_serial), error)

    def close(self) -> None:
        """Send no more answers; accepted publishes go on."""
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
        if self._capacity is not None:
            self._capacity.set()

    def _answer(self, answer: list[PublishReply], reply: PublishReply) -> None:
        answer.append(reply)
        if not self._closed and not self._flushing:
            # A batch of the acceptor answers many publishes in one turn of the loop: they are sent as one ACK.
            self._flushing = True
            asyncio.get_running_loop().call_soon(self._flush)

    def _flush(self) -> None:
        """Send the answers at the head of the line, neighbouring ACKs as one."""
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
    """Return the answer to a publish: the first refusal among its messages, else all serials."""
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
