from __future__ import annotations

from django.apps import AppConfig


class IntegrationsConfig(AppConfig):
    """API keys and tokens, rules, and the deliveries to webhooks."""

    name = "integrations"
    verbose_name = "Integrations"

    def ready(self) -> None:
        """Listen to what the log publishes."""
        from integrations import receivers
        from rooms.signals import messages_published

        messages_published.connect(receivers.owe_deliveries, dispatch_uid="integrations.deliveries")
