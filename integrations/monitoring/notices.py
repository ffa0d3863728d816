"""Writes notices for administrators: on the admin's first page until dismissed, and by mail."""

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

NOTICE_MAILS_PER_HOUR = 20  # an outage of many rules must not fill mailboxes

TITLE_MAX_CHARACTERS = 200
TEXT_MAX_CHARACTERS = 4000
SHOWN = 50
_mailing = threading.BoundedSemaphore(2)  # mails that this process may send at once


def write(
    title: str, *, now: datetime, text: str = "", level: str = NoticeLevel.WARNING, rule_id: int | None = None
) -> Notice | None:
    """Write a notice and mail it after commit.

    Return None if the same notice is open already, so that nobody is flooded, or if its rule is gone.
    """
    title = title[:TITLE_MAX_CHARACTERS]
    with transaction.atomic():
        # The rule before the lock of notices: code that switches a rule and then writes a notice locks in this order.
        if rule_id is not None and not _keep(rule_id):
            return None
        _wait_for_other_writers()
        if Notice.objects.filter(dismissed_at__isnull=True, title=title, rule_id=rule_id).exists():
            return None
        notice = Notice.objects.create(
            title=title, text=text[:TEXT_MAX_CHARACTERS], level=level, rule_id=rule_id, created_at=now
        )
        recent = Notice.objects.filter(created_at__gt=now - timedelta(hours=1)).count()
        if recent <= NOTICE_MAILS_PER_HOUR:
            transaction.on_commit(lambda: _mail_in_background(notice))
    return notice


def open_notices(limit: int = SHOWN) -> Sequence[Notice]:
    """Return the notices that nobody has dismissed, the newest first, each with its rule."""
    return list(Notice.objects.filter(dismissed_at__isnull=True).select_related("rule").order_by("-id")[:limit])


def dismiss(notice_ids: Sequence[int], *, by: str, now: datetime) -> int:
    """Dismiss notices for all administrators. Return how many were open."""
    return Notice.objects.filter(id__in=notice_ids, dismissed_at__isnull=True).update(
        dismissed_at=now, dismissed_by=by[:150]
    )


def withdraw(title: str, *, rule_id: int, now: datetime) -> None:
    """Dismiss a rule's notice that is no longer true."""
    mine = Notice.objects.filter(title=title[:TITLE_MAX_CHARACTERS], rule_id=rule_id, dismissed_at__isnull=True)
    mine.update(dismissed_at=now)


def tidy(*, before: datetime, limit: int) -> int:
    """Delete notices that were dismissed before a time, the oldest first. Return how many."""
    old = Notice.objects.filter(dismissed_at__lt=before).order_by("id").values_list("id", flat=True)[:limit]
    return Notice.objects.filter(id__in=list(old)).delete()[0]


def mail(notice: Notice) -> None:
    """Send a notice to the ADMINS of the settings; without any, nothing happens. A failure is only logged."""
    try:
        mail_admins(" ".join(notice.title.split()), f"{notice.text}\n\n{settings.PUBLIC_URL}/admin/\n".lstrip())
    except (OSError, ValueError) as error:  # smtplib's errors are OSErrors
        logger.warning("A notice could not be mailed: %s", type(error).__name__)


def _mail_in_background(notice: Notice) -> None:
    # In a thread of its own: a mail server that hangs must not hold a database thread until EMAIL_TIMEOUT.
    if settings.ADMINS and _mailing.acquire(blocking=False):
        threading.Thread(target=_mail_and_release, args=(notice,), name="mail", daemon=True).start()


def _mail_and_release(notice: Notice) -> None:
    try:
        mail(notice)
    finally:
        _mailing.release()


def _keep(rule_id: int) -> bool:
    """Lock a rule against removal until the transaction ends. Return False if it does not exist."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT FROM integrations_integrationrule WHERE id = %s FOR KEY SHARE", [rule_id])
        return bool(cursor.rowcount == 1)


def _wait_for_other_writers() -> None:
    lock(AdvisoryLock.WRITING_NOTICES)
