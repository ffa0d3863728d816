"""Caches one set of AWS credentials: fetched on demand by one task at a time, and renewed before it expires."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

from integrations.egress.answers import CallFailed
from integrations.egress.aws.signing import AwsCredentials
from rooms import faults

RENEW_BEFORE_SECONDS = 300.0
SPARE_SECONDS = 30.0  # credentials are not used so close to their end: the call must be able to finish
# Credentials without an expiry are fetched again after so long; botocore returns none that end sooner.
ASK_AGAIN_SECONDS = 60.0
UNDATED_SECONDS = 540.0
FAILURE_SECONDS = 5.0  # so long a failure is not tried again

Fetch = Callable[[], Awaitable[AwsCredentials]]


class CredentialCache:
    """Caches the credentials that `fetch` returns, within `seconds`; it may raise CallFailed. For one event loop."""

    def __init__(self, fetch: Fetch, *, seconds: float) -> None:
        self._fetch = fetch
        self._seconds = seconds
        self._value: AwsCredentials | None = None
        self._fetched_at = 0.0  # monotonic, like the others
        self._renew_at = 0.0
        self._ends_at = 0.0
        self._failure: CallFailed | None = None
        self._failed_at = 0.0
        self._task: asyncio.Task[AwsCredentials] | None = None

    async def get(self) -> AwsCredentials:
        """Return credentials that are valid for a while. Raises CallFailed."""
        now = time.monotonic()
        if self._value is not None and now < self._ends_at:
            if now >= self._renew_at:
                self._begin()
            return self._value
        if self._failure is not None and now < self._failed_at + FAILURE_SECONDS:
            raise CallFailed(str(self._failure))
        # A call that gives up leaves the fetching to the others; it has a time limit of its own.
        return await asyncio.shield(self._begin())

    def refuse(self, credentials: AwsCredentials) -> None:
        """Drop credentials that AWS refused, unless they were fetched just now."""
        if self._value == credentials and time.monotonic() > self._fetched_at + FAILURE_SECONDS:
            self._ends_at = 0.0

    def close(self) -> None:
        """Cancel the fetching under way."""
        if self._task is not None:
            self._task.cancel()

    def _begin(self) -> asyncio.Task[AwsCredentials]:
        if self._task is None:
            self._task = asyncio.create_task(self._renew())
            self._task.add_done_callback(self._done)
        return self._task

    async def _renew(self) -> AwsCredentials:
        try:
            async with asyncio.timeout(self._seconds):
                value = await self._fetch()
        except TimeoutError:
            raise CallFailed(f"No AWS credentials within {self._seconds:g} seconds.") from None
        except CallFailed:
            raise
        except (ValueError, OSError) as error:  # botocore raises both for files that cannot be read
            raise CallFailed(f"AWS credentials cannot be read ({type(error).__name__}).") from None
        except Exception as error:
            # A call without credentials has failed, whatever the reason.
            faults.record("AWS credentials")
            raise CallFailed(f"AWS credentials cannot be read ({type(error).__name__}).") from None
        self._value, self._failure = value, None
        self._fetched_at = now = time.monotonic()
        if value.expires_at is None:
            self._renew_at, self._ends_at = now + ASK_AGAIN_SECONDS, now + UNDATED_SECONDS
        else:
            left = (value.expires_at - datetime.now(UTC)).total_seconds() - SPARE_SECONDS
            self._ends_at = now + left
            self._renew_at = self._ends_at - min(RENEW_BEFORE_SECONDS, left / 4)
        return value

    def _done(self, task: asyncio.Task[AwsCredentials]) -> None:
        self._task = None
        if task.cancelled():
            return
        error = task.exception()
        if isinstance(error, CallFailed):
            self._failure = error
            self._failed_at = time.monotonic()
            self._renew_at = self._failed_at + FAILURE_SECONDS
