"""The AWS credentials of rules: a rule's own, or those of the environment or the instance, or those of a role."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import msgspec
from django.conf import settings

from integrations.egress.answers import CallFailed
from integrations.egress.aws import endpoints, sts
from integrations.egress.aws.credential_cache import CredentialCache
from integrations.egress.aws.signing import SERVICE_STS, AwsCredentials, load, sign
from integrations.egress.outgoing import Outgoing
from integrations.models import IntegrationRule
from integrations.secrets.sealing import SealBroken, unseal

AWS_CREDENTIALS_SECONDS = 5.0  # the longest wait for credentials; a message's budget is three times that

MAX_ROLES = 500
SESSION_NAME = "chatsite"  # in AWS's logs

ReadAmbient = Callable[[], AwsCredentials | None]


@dataclass(frozen=True, kw_only=True)
class _Role:
    """The key of a role's credentials in the cache."""

    arn: str
    external_id: str
    region: str
    sealed: bytes | None


class CredentialStore:
    """All credentials of one worker, each cached for all its calls. For one event loop.

    `read` returns those of the environment or the instance; it may take seconds, and is called in a thread.
    """

    def __init__(self, outgoing: Outgoing, *, read: ReadAmbient | None = None) -> None:
        self._outgoing = outgoing
        self._read = read or Ambient().read
        # One thread: botocore has time limits of its own, so that it never hangs forever.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="aws-credentials")
        self._reading: asyncio.Future[AwsCredentials | None] | None = None
        self._loading: asyncio.Future[None] | None = None
        self._ambient = CredentialCache(self._fetch_ambient, seconds=AWS_CREDENTIALS_SECONDS)
        self._roles: OrderedDict[_Role, CredentialCache] = OrderedDict()

    async def get(self, rule: IntegrationRule, *, region: str) -> AwsCredentials:
        """Return the credentials that sign a rule's calls. Raises CallFailed."""
        await self._load()
        sealed = None if rule.sealed_credentials is None else bytes(rule.sealed_credentials)
        if not rule.role:
            return await self._base(sealed)
        return await self._role(_Role(arn=rule.role, external_id=rule.external_id, region=region, sealed=sealed)).get()

    def refuse(self, credentials: AwsCredentials) -> None:
        """Drop credentials that AWS did not accept, so that the next call fetches others."""
        for kept in (self._ambient, *self._roles.values()):
            kept.refuse(credentials)

    def close(self) -> None:
        """Cancel the fetching under way, and end the thread."""
        for kept in (self._ambient, *self._roles.values()):
            kept.close()
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _role(self, role: _Role) -> CredentialCache:
        kept = self._roles.get(role)
        if kept is None:
            kept = self._roles[role] = CredentialCache(lambda: self._assume(role), seconds=AWS_CREDENTIALS_SECONDS)
            if len(self._roles) > MAX_ROLES:
                self._roles.popitem(last=False)[1].close()
        self._roles.move_to_end(role)
        return kept

    async def _assume(self, role: _Role) -> AwsCredentials:
        base = await self._base(role.sealed)
        url = settings.AWS_ENDPOINT_URL_STS or endpoints.sts_url(role.region)
        body = sts.assume_role(role.arn, external_id=role.external_id, session=SESSION_NAME)
        headers = sign(base, url=url, body=body, headers=sts.HEADERS, service=SERVICE_STS, region=role.region)
        answer = await self._outgoing.post(url, body=body, headers=headers, timeout=AWS_CREDENTIALS_SECONDS)
        return sts.read(answer)

    async def _base(self, sealed: bytes | None) -> AwsCredentials:
        return await self._ambient.get() if sealed is None else _opened(sealed)

    async def _fetch_ambient(self) -> AwsCredentials:
        # If a former call gave up waiting, its reading goes on: there is never a second one.
        if self._reading is None or self._reading.done():
            self._reading = asyncio.get_running_loop().run_in_executor(self._thread, self._read)
        found = await asyncio.shield(self._reading)
        if found is None:
            raise CallFailed(
                "No AWS credentials: the rule has none of its own, and neither the environment (AWS_ACCESS_KEY_ID, "
                "AWS_SECRET_ACCESS_KEY) nor the instance has any."
            )
        return found

    async def _load(self) -> None:
        if self._loading is None:
            self._loading = asyncio.get_running_loop().run_in_executor(self._thread, load)
        if not self._loading.done():
            await asyncio.shield(self._loading)


class Ambient:
    """The credentials that every AWS SDK finds on this machine: environment, files, container, instance."""

    def __init__(self) -> None:
        self._session: Any = None

    def read(self) -> AwsCredentials | None:
        """Return the credentials, renewed if they end soon, or None. Blocks for seconds. Raises CallFailed."""
        from botocore.exceptions import BotoCoreError
        from botocore.session import Session

        try:
            self._session = self._session or Session()
            found = self._session.get_credentials()
            frozen = None if found is None else found.get_frozen_credentials()
        except BotoCoreError as error:
            raise CallFailed(f"AWS credentials cannot be read ({type(error).__name__}).") from None
        if frozen is None or not frozen.access_key or not frozen.secret_key:
            return None
        return AwsCredentials(
            access_key_id=frozen.access_key, secret_access_key=frozen.secret_key, session_token=frozen.token or ""
        )


@lru_cache(maxsize=MAX_ROLES)
def _opened(sealed: bytes) -> AwsCredentials:
    """Unseal the credentials that a rule stores. Raises CallFailed."""
    try:
        parts = msgspec.json.decode(unseal(sealed), type=dict[str, str])
        return AwsCredentials(
            access_key_id=parts["accessKeyId"],
            secret_access_key=parts["secretAccessKey"],
            session_token=parts.get("sessionToken", ""),
        )
    except SealBroken as error:
        raise CallFailed(str(error)) from None
    except (msgspec.MsgspecError, KeyError):
        raise CallFailed("The rule's AWS credentials are damaged: store them again.") from None
