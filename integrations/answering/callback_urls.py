from __future__ import annotations

from django.urls import path

from integrations.answering.callback_views import VerdictView

urlpatterns = [path("integrations/verdict", VerdictView.as_view(), name="verdict")]
