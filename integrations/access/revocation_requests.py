"""The protocol's request to revoke tokens: parsed, authorised by the key that came with it, answered by target."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Self

import msgspec

from integrations.access import keys, revocations, token_requests
from integrations.access.revocations import MAX_TARGETS, RevocationTarget
from integrations.models import Revocation
from rooms.errors import ChatError, Code
from rooms.log.rows import milliseconds


class RevocationRequest(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """The public shape. `issued_before` in milliseconds; None: now."""

    targets: list[str]
    issued_before: int | None = None
    allow_reauth_margin: bool = False

    @classmethod
    def parse(cls, body: Any) -> Self:
        """Read a decoded body. Raises ChatError 40003."""
        try:
            request = msgspec.convert(body, cls)
        except msgspec.ValidationError as error:
            raise ChatError(Code.INVALID_PARAMETER, f"This is not a request to revoke tokens: {error}.") from None
        if not 0 < len(request.targets) <= MAX_TARGETS:
            raise ChatError(Code.INVALID_PARAMETER, f"A request has 1 to {MAX_TARGETS} targets.")
        return request


class TargetResult(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """The result for one target: which tokens are refused from when on, or the error."""

    target: str
    issued_before: int | None = None
    applies_at: int | None = None
    error: dict[str, Any] | None = None


class BatchResult(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """The protocol's shape for answers about several things (BAR2)."""

    success_count: int
    failure_count: int
    results: list[TargetResult]


def answer(key_name: str, request: RevocationRequest, shown_key: str | None, now: datetime) -> BatchResult:
    """Check the key, and revoke the valid targets. Each invalid target gets its own error in the result.

    Raises ChatError: 40106, 40101, 40130 or 40131 for the key, 40003 for the moment, 42910 at REVOCATIONS_MAX.
    """
    token_requests.check_shown(key_name, shown_key, now)
    read = [_read(text) for text in request.targets]
    written = iter(
        revocations.revoke(
            keys.row_of(key_name),
            [target for target in read if isinstance(target, RevocationTarget)],
            now=now,
            issued_before=revocations.moment(request.issued_before),
            with_margin=request.allow_reauth_margin,
            by=f"key {key_name}",
        )
    )
    results = [
        _success(text, next(written))
        if isinstance(target, RevocationTarget)
        else TargetResult(target=text, error=target)
        for text, target in zip(request.targets, read, strict=True)
    ]
    failures = sum(result.error is not None for result in results)
    return BatchResult(success_count=len(results) - failures, failure_count=failures, results=results)


def _read(text: str) -> RevocationTarget | dict[str, Any]:
    try:
        return RevocationTarget.parse(text)
    except ChatError as error:
        return error.as_dict()


def _success(text: str, row: Revocation) -> TargetResult:
    return TargetResult(
        target=text, issued_before=milliseconds(row.issued_before), applies_at=milliseconds(row.applies_at)
    )
