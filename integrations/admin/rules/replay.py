"""The form that replays deliveries: the dead letters of a rule, or its deliveries of some time."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django import forms
from django.core.exceptions import ValidationError

from integrations import outbox
from integrations.models import DeliveryState, EventKind, IntegrationRule

MOST = 20_000  # of one click; each step is a transaction of its own
STATES = (
    (DeliveryState.DEAD.value, "Dead letters: events that no call delivered"),
    (DeliveryState.DELIVERED.value, "Delivered ones, once more"),
)


class ReplayForm(forms.Form):
    """The form of a replay: which deliveries of a rule to resend."""

    state = forms.ChoiceField(choices=STATES, widget=forms.RadioSelect, initial=DeliveryState.DEAD)
    event = forms.ChoiceField(required=False)
    since = forms.DateTimeField(
        required=False,
        label="Made since",
        help_text="UTC.",
        widget=forms.DateTimeInput(attrs={"type": "datetime-local"}),
    )
    until = forms.DateTimeField(
        required=False,
        label="and before",
        help_text="UTC.",
        widget=forms.DateTimeInput(attrs={"type": "datetime-local"}),
    )

    def __init__(self, rule: IntegrationRule, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        event = self.fields["event"]
        assert isinstance(event, forms.ChoiceField)
        event.choices = [("", "Every event"), *(choice for choice in EventKind.choices if choice[0] in rule.events)]

    def clean(self) -> dict[str, Any]:
        """Refuse a time that ends before it begins, and delivered ones without a beginning."""
        cleaned = super().clean() or {}
        since, until = cleaned.get("since"), cleaned.get("until")
        if since and until and since >= until:
            raise ValidationError("The time ends before it begins.")
        if cleaned.get("state") == DeliveryState.DELIVERED and not since:
            raise ValidationError("Say since when: everything that was ever delivered is too much to repeat.")
        return cleaned


def replay(rule: IntegrationRule, said: dict[str, Any], *, now: datetime) -> int:
    """Resend the deliveries of a form, the oldest first, at most MOST. Return how many."""
    query = outbox.Replay(
        rule_id=rule.pk, states=[said["state"]], since=said["since"], until=said["until"], event=said["event"]
    )
    return outbox.replay(query, now=now, most=MOST)
