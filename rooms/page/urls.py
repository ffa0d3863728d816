"""Addresses of the pages that people see."""

from __future__ import annotations

from django.urls import path

from rooms.page import views

app_name = "page"

urlpatterns = [
    path("", views.home, name="home"),
    # A room's name may hold slashes.
    path("rooms/<path:name>/", views.room, name="room"),
    path("sign-in/", views.sign_in, name="sign-in"),
    path("guest/", views.enter_as_guest, name="guest"),
    path("sign-out/", views.sign_out, name="sign-out"),
]
