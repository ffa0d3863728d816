"""The word rules of moderators, and the queue of held messages."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.core.exceptions import ValidationError
from django.db import models
from django.db.models import Q
from django.utils import timezone

from moderation import matcher
from moderation.matcher import PATTERN_MAX_CHARACTERS, Kind, MatchEffect, PatternError
from rooms.models import Message


class WordRule(models.Model):
    """A pattern that messages must not contain, and the effect of a match. Only moderation.word_rules changes it."""

    name = models.CharField(max_length=120, help_text="For moderators; authors never see it.")
    pattern = models.CharField(
        max_length=PATTERN_MAX_CHARACTERS,
        help_text="Matched on a copy in lower case, without accents, invisible characters and lookalikes. "
        "In a word, `*` at an end stands for the rest of the word.",
    )
    kind = models.CharField(
        max_length=5,
        choices=[(Kind.WORD.value, "word or phrase"), (Kind.REGEX.value, "regular expression (RE2)")],
        default=Kind.WORD.value,
    )
    action = models.CharField(
        max_length=6,
        choices=[
            (MatchEffect.MASK.value, "mask what matches with ***"),
            (MatchEffect.HOLD.value, "hold the message for a moderator"),
            (MatchEffect.REJECT.value, "reject the message"),
        ],
        default=MatchEffect.MASK.value,
    )
    room_filter = models.CharField(
        max_length=PATTERN_MAX_CHARACTERS,
        blank=True,
        help_text="Regular expression (RE2) that is searched in the room's name. Empty: every room.",
    )
    reason = models.CharField(max_length=500, blank=True, help_text="What the author of a rejected message is told.")
    enabled = models.BooleanField(default=True)
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    changed_at = models.DateTimeField(default=timezone.now, editable=False)
    changed_by = models.CharField(max_length=150, blank=True, editable=False)

    class Meta:
        ordering = ("name", "id")
        constraints = (
            models.CheckConstraint(condition=~Q(pattern=""), name="word_rule_has_a_pattern"),
            models.CheckConstraint(condition=Q(kind__in=[kind.value for kind in Kind]), name="word_rule_kind_known"),
            models.CheckConstraint(
                condition=Q(action__in=[effect.value for effect in MatchEffect]), name="word_rule_action_known"
            ),
        )
        indexes = (models.Index(fields=["id"], condition=Q(enabled=True), name="word_rule_enabled"),)

    def __str__(self) -> str:
        return self.name

    def clean(self) -> None:
        """Refuse a pattern that cannot be matched, with the reason."""
        problems = {
            field: problem
            for field, problem in (
                ("pattern", _problem_of(matcher.check_pattern, Kind(self.kind), self.pattern)),
                ("room_filter", _problem_of(matcher.check_regex, self.room_filter)),
            )
            if problem
        }
        if problems:
            raise ValidationError(problems)

    def as_rule(self) -> matcher.Rule:
        """Return the rule for the matcher."""
        return matcher.Rule(
            id=self.pk,
            pattern=self.pattern,
            kind=Kind(self.kind),
            effect=MatchEffect(self.action),
            name=self.name,
            reason=self.reason,
            room_filter=self.room_filter,
        )


def _problem_of(check: Callable[..., None], *args: Any) -> str:
    try:
        check(*args)
    except PatternError as error:
        return str(error)
    return ""


class HeldMessage(Message):
    """A message that waits for a moderator. A view of rooms' messages; rooms.review.decide lets it go."""

    class Meta:
        proxy = True
        ordering = ("id",)
        verbose_name = "held message"
        default_permissions = ("view",)
        permissions = (("decide_heldmessage", "Can publish or reject held messages"),)
