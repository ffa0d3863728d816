"""The site's settings with the app `rooms` alone: nobody reviews, nobody keeps keys, nothing is called."""

from chatsite.settings import *  # noqa: F403

INSTALLED_APPS = ["rooms"]
MIDDLEWARE: list[str] = []
ROOT_URLCONF = "rooms.rest.urls"
ROOMS_REVIEWERS: list[str] = []
CHANNEL_LAYERS = {"default": {"BACKEND": "channels.layers.InMemoryChannelLayer"}}
