from __future__ import annotations

from django.apps import AppConfig


class IntegrationsConfig(AppConfig):
    """The app of API keys, tokens, integration rules and webhook deliveries."""

    name = "integrations"
    verbose_name = "Integrations"

    def ready(self) -> None:
        """Connect the receivers of the log's signals."""
        from integrations.events import occupancy_events, signal_receivers
        from rooms.log import signals

        for signal, receiver in (
            (signals.messages_published, signal_receivers.on_published),
            (signals.messages_amended, signal_receivers.on_amended),
            (signals.messages_accepted, signal_receivers.on_accepted),
            (signals.reviews_ended, signal_receivers.on_reviewed),
            (signals.rooms_unused, occupancy_events.on_rooms_unused),
        ):
            signal.connect(receiver, dispatch_uid=f"integrations.{receiver.__name__}")
