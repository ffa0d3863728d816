"""Notices for admins: on their first page until somebody dismisses them, and by mail. Only this module writes them."""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from datetime import datetime, timedelta

from django.conf import settings
from django.core.mail import mail_admins
from django.db import connection, transaction

from integrations.database.advisory_locks import AdvisoryLock, lock
from integrations.models import Notice, NoticeLevel

logger = logging.getLogger(__name__)

TITLE_MAX_CHARACTERS = 200
TEXT_MAX_CHARACTERS = 4000
SHOWN = 50
_mailing = threading.BoundedSemaphore(2)  # mails on their way from this process


def write(
    title: str, *, now: datetime, text: str = "", level: str = NoticeLevel.WARNING, rule_id: int | None = None
) -> Notice | None:
    """Write a notice and mail it after commit.

    Return None where the same one is open already (nobody is flooded), or where its rule is gone.
    """
    title = title[:TITLE_MAX_CHARACTERS]
    with transaction.atomic():
        # Rules are locked before this, by whoever switches one and writes of it: so here too, for there is no circle.
        if rule_id is not None and not _keep(rule_id):
            return None
        _wait_for_other_writers()
        if Notice.objects.filter(dismissed_at__isnull=True, title=title, rule_id=rule_id).exists():
            return None
        notice = Notice.objects.create(
            title=title, text=text[:TEXT_MAX_CHARACTERS], level=level, rule_id=rule_id, created_at=now
        )
        recent = Notice.objects.filter(created_at__gt=now - timedelta(hours=1)).count()
        if recent <= settings.NOTICE_MAILS_PER_HOUR:
            transaction.on_commit(lambda: _mail_in_background(notice))
    return notice


def open_notices(limit: int = SHOWN) -> Sequence[Notice]:
    """Return what nobody dismissed yet, the newest first, each with its rule."""
    return list(Notice.objects.filter(dismissed_at__isnull=True).select_related("rule").order_by("-id")[:limit])


def dismiss(notice_ids: Sequence[int], *, by: str, now: datetime) -> int:
    """Take notices off the first page. Return how many were open."""
    return Notice.objects.filter(id__in=notice_ids, dismissed_at__isnull=True).update(
        dismissed_at=now, dismissed_by=by[:150]
    )


def withdraw(title: str, *, rule_id: int, now: datetime) -> None:
    """Take a rule's notice off the first page because it holds no more."""
    mine = Notice.objects.filter(title=title[:TITLE_MAX_CHARACTERS], rule_id=rule_id, dismissed_at__isnull=True)
    mine.update(dismissed_at=now)


def tidy(*, before: datetime, limit: int) -> int:
    """Delete notices that were dismissed before that time, the oldest first. Return how many."""
    old = Notice.objects.filter(dismissed_at__lt=before).order_by("id").values_list("id", flat=True)[:limit]
    return Notice.objects.filter(id__in=list(old)).delete()[0]


def mail(notice: Notice) -> None:
    """Send a notice to the ADMINS of the settings; without any, nothing happens. A failure is only logged."""
    try:
        mail_admins(" ".join(notice.title.split()), f"{notice.text}\n\n{settings.PUBLIC_URL}/admin/\n".lstrip())
    except (OSError, ValueError) as error:  # smtplib's errors are OSErrors
        logger.warning("A notice could not be mailed: %s", type(error).__name__)


def _mail_in_background(notice: Notice) -> None:
    # A mail server that hangs costs a thread of its own for EMAIL_TIMEOUT, and no database thread.
    if settings.ADMINS and _mailing.acquire(blocking=False):
        threading.Thread(target=_mail_and_release, args=(notice,), name="mail", daemon=True).start()


def _mail_and_release(notice: Notice) -> None:
    try:
        mail(notice)
    finally:
        _mailing.release()


def _keep(rule_id: int) -> bool:
    """Keep a rule from going before the transaction ends. Return False if it has gone."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT FROM integrations_integrationrule WHERE id = %s FOR KEY SHARE", [rule_id])
        return bool(cursor.rowcount == 1)


def _wait_for_other_writers() -> None:
    lock(AdvisoryLock.WRITING_NOTICES)
