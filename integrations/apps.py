from __future__ import annotations

from django.apps import AppConfig


class IntegrationsConfig(AppConfig):
    """API keys and tokens, rules, and the deliveries to webhooks."""

    name = "integrations"
    verbose_name = "Integrations"

    def ready(self) -> None:
        """Listen to what the log says."""
        from integrations.ruling import receivers
        from rooms.log import signals

        for signal, receiver in (
            (signals.messages_published, receivers.owe_published),
            (signals.messages_amended, receivers.owe_changed),
            (signals.messages_accepted, receivers.owe_accepted),
            (signals.reviews_ended, receivers.owe_reviewed),
        ):
            signal.connect(receiver, dispatch_uid=f"integrations.{receiver.__name__}")
