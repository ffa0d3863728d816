"""The form of a rule, its fields in groups. integrations.rules.rules checks the values."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import MISSING, fields
from typing import Any

from django import forms
from django.core.exceptions import ValidationError

from integrations.models import EventKind, IntegrationRule, TargetKind, When
from integrations.rules import rules
from integrations.rules.specification import check_headers, check_url
from rooms.errors import ChatError

GROUPS: tuple[tuple[str, str, tuple[Any, ...]], ...] = (
    (
        "What it hears of",
        "Which events of which rooms and authors, and whether messages wait for its verdict.",
        ("name", "when", "events", ("room_filter", "author_filter"), ("sample_percent", "order")),
    ),
    (
        "Target",
        "Where its calls go.",
        (
            "target", "url", ("function", "qualifier"), "invocation", "region", ("role", "external_id"),
            ("access_key_id", "secret_access_key"), "forget_credentials", "headers",
        ),
    ),
    (
        "Verdicts",
        "For rules before publish: how long a message waits, and what becomes of it then.",
        (
            "budget_seconds", "at_deadline", ("at_deadline_new", "at_deadline_trusted"), "late",
            ("cache_seconds", "cache_after"),
        ),
    ),
    (
        "Calls",
        "How much goes in one call, and how many calls at once.",
        (
            "enveloped", "ordered", "batched", ("batch_events", "batch_bytes", "batch_wait_ms"),
            ("timeout_seconds", "concurrency"),
        ),
    ),
    (
        "Beside another rule",
        "A shadow is asked what another rule is asked, and decides nothing; the answers are compared.",
        ("shadow_of", "stands_in"),
    ),
)  # fmt: skip
WANTED = tuple(field.name for field in fields(rules.RuleSpec))
DEFAULTS: dict[str, Any] = {
    field.name: field.default for field in fields(rules.RuleSpec) if field.default is not MISSING
}  # fmt: skip
FIELD_CHECKS: dict[str, Callable[[Any], None]] = {
    "headers": check_headers,
    "room_filter": lambda pattern: rules.check_filter(pattern, "room filter"),
    "author_filter": lambda pattern: rules.check_filter(pattern, "author filter"),
}
CREDENTIALS = ("access_key_id", "secret_access_key", "forget_credentials")


def shown_fields() -> tuple[Any, ...]:
    """Return the fields of all groups, except those of credentials."""
    rows = []
    for _title, _text, names in GROUPS:
        for name in names:
            if not (set(name) if isinstance(name, tuple) else {name}).intersection(CREDENTIALS):
                rows.append(name)
    return tuple(rows)


class RuleForm(forms.ModelForm[IntegrationRule]):
    """The form of a new or existing rule."""

    events = forms.MultipleChoiceField(
        choices=EventKind.choices, initial=[EventKind.MESSAGE], widget=forms.CheckboxSelectMultiple
    )
    access_key_id = forms.CharField(
        required=False, max_length=128, label="AWS access key id", widget=forms.TextInput(attrs={"autocomplete": "off"})
    )
    secret_access_key = forms.CharField(
        required=False,
        label="AWS secret access key",
        widget=forms.PasswordInput(attrs={"autocomplete": "new-password"}),
        help_text="Stored sealed, never shown. Both empty: those that are stored stay, else environment or instance.",
    )
    forget_credentials = forms.BooleanField(
        required=False, label="Forget the stored AWS keys", help_text="Then those of the environment or the instance."
    )

    class Meta:
        model = IntegrationRule
        fields = WANTED
        labels = {
            "when": "Asked or told",
            "sample_percent": "Sample, in per cent",
            "at_deadline": "When no verdict comes in time",
            "at_deadline_new": "… for new authors",
            "at_deadline_trusted": "… for trusted authors",
            "budget_seconds": "Budget, in seconds",
            "late": "A verdict that comes late",
            "cache_seconds": "Share verdicts for, in seconds",
            "cache_after": "after so many calls",
            "batch_events": "Events of a batch",
            "batch_bytes": "Bytes of a batch",
            "batch_wait_ms": "Wait for more, in ms",
            "timeout_seconds": "Time limit of a call, in seconds",
            "concurrency": "Calls at once",
            "stands_in": "Stand in while the main target is down",
        }
        widgets = {
            "url": forms.TextInput(attrs={"class": "vLargeTextField", "placeholder": "https://", "inputmode": "url"}),
            "function": forms.TextInput(attrs={"class": "vTextField monospace"}),
            "role": forms.TextInput(attrs={"class": "vTextField monospace", "placeholder": "arn:aws:iam::…"}),
            "headers": forms.Textarea(attrs={"rows": 3, "class": "vLargeTextField monospace", "spellcheck": "false"}),
            "room_filter": forms.TextInput(attrs={"class": "vTextField monospace", "placeholder": "^lobby$"}),
            "author_filter": forms.TextInput(attrs={"class": "vTextField monospace"}),
        }

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for name in DEFAULTS:
            if name in self.fields and name != "events":
                self.fields[name].required = False
        self.is_new = self.instance._state.adding
        if self.is_new:
            del self.fields["forget_credentials"]
        else:
            # Its deliveries were made for the one or the other.
            self.fields["when"].disabled = True
        mains = IntegrationRule.objects.filter(when=When.BEFORE, shadow_of__isnull=True).exclude(pk=self.instance.pk)
        shadow_of = self.fields["shadow_of"]
        assert isinstance(shadow_of, forms.ModelChoiceField)
        shadow_of.queryset = mains

    def clean_headers(self) -> dict[str, Any]:
        """Return the headers. Refuse what is no JSON object."""
        headers = self.cleaned_data["headers"] or {}
        if not isinstance(headers, dict):
            raise ValidationError('The headers are a JSON object: {"x-team": "chat"}.')
        return headers

    def clean(self) -> dict[str, Any]:
        """Fill in defaults, check each field, and check the rule as a whole once each field is valid."""
        cleaned = super().clean() or {}
        for name, default in DEFAULTS.items():
            if name in self.fields and name != "shadow_of" and cleaned.get(name) in (None, ""):
                cleaned[name] = default
        self.cleaned_data = cleaned
        for field, check in FIELD_CHECKS.items():
            if field in cleaned:
                self._check(field, check, cleaned[field])
        if "url" in cleaned and (cleaned.get("target") != TargetKind.INVOKE or cleaned["url"]):
            self._check("url", check_url, cleaned["url"])
        for check_spec in (rules.check, self._check_beside_others):
            if not self.errors:
                self._check(None, check_spec, self.spec())
        return self.cleaned_data

    def spec(self) -> rules.RuleSpec:
        """Return the specification of the rule."""
        return rules.RuleSpec(**{field: self.cleaned_data[field] for field in WANTED})

    def _check_beside_others(self, spec: rules.RuleSpec) -> None:
        rules.check_beside_others(spec, None if self.is_new else self.instance)

    def _check(self, field: str | None, check: Callable[[Any], None], value: Any) -> None:
        """Show the error of a check at its field; None: above the form."""
        try:
            check(value)
        except ChatError as error:
            self.add_error(field, error.message)
