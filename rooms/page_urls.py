"""Addresses of the pages that people see."""

from __future__ import annotations

from django.urls import path

from rooms import page

app_name = "page"

urlpatterns = [
    path("", page.home, name="home"),
    # A room's name may hold slashes.
    path("rooms/<path:name>/", page.room, name="room"),
    path("sign-in/", page.sign_in, name="sign-in"),
    path("guest/", page.enter_as_guest, name="guest"),
    path("sign-out/", page.sign_out, name="sign-out"),
]
