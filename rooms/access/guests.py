"""Identifies the person at a page: a signed-in user, or a guest who picked a name (kept in the session)."""

from __future__ import annotations

import re
import secrets
import unicodedata
from dataclasses import dataclass
from typing import TypedDict

from django import forms
from django.contrib.auth import get_user_model
from django.http import HttpRequest

SESSION_KEY = "guest"
MAX_NAME_CHARACTERS = 32
# Parts a guest's name from its random tag. No username holds it: a guest's client id is never a user's.
SEPARATOR = "~"
TAG_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
TAG_CHARACTERS = 4
# Unicode categories: controls, formatting (bidi, zero width), private, surrogates, unassigned.
INVISIBLE = {"Cc", "Cf", "Co", "Cs", "Cn"}


class Guest(TypedDict):
    """A guest as the session keeps it; the token endpoint reads it too."""

    name: str
    client_id: str


@dataclass(frozen=True, kw_only=True)
class Person:
    """A user or guest who may chat."""

    name: str
    client_id: str
    is_guest: bool


def person_of(request: HttpRequest) -> Person | None:
    """Return the person at the page; None for a visitor who has not picked a name yet."""
    if request.user.is_authenticated:
        username = request.user.get_username()
        return Person(name=username, client_id=username, is_guest=False)
    guest: Guest | None = request.session.get(SESSION_KEY)
    return Person(**guest, is_guest=True) if guest else None


def welcome(request: HttpRequest, name: str) -> Guest:
    """Store a name from `clean_name` in a fresh session and return the guest. The same name keeps its client id."""
    known: Guest | None = request.session.get(SESSION_KEY)
    if known and known["name"] == name:
        return known
    tag = "".join(secrets.choice(TAG_ALPHABET) for _ in range(TAG_CHARACTERS))
    guest = Guest(name=name, client_id=f"{name}{SEPARATOR}{tag}")
    request.session.cycle_key()
    request.session[SESSION_KEY] = guest
    return guest


def clean_name(text: str) -> str:
    """Return a name in one normal form. Raises ValueError, with a sentence for the person, for an unusable name.

    Invisible characters and those that turn the direction of writing are removed: they make names look alike.
    """
    normal = unicodedata.normalize("NFKC", text)
    visible = "".join(c for c in normal if c.isspace() or unicodedata.category(c) not in INVISIBLE)
    name = re.sub(r"\s+", " ", visible).strip()
    if not any(character.isalnum() for character in name):
        raise ValueError("A name needs at least one letter or digit.")
    if len(name) > MAX_NAME_CHARACTERS:
        raise ValueError(f"A name has at most {MAX_NAME_CHARACTERS} characters.")
    if SEPARATOR in name:
        raise ValueError(f"A name cannot contain “{SEPARATOR}”.")
    return name


class GuestForm(forms.Form):
    """The form in which a guest picks a name. It refuses registered users' names, in any case of letters."""

    name = forms.CharField(label="Your name", max_length=200, strip=True)

    def clean_name(self) -> str:
        """Return the name in its normal form. Raises ValidationError."""
        try:
            name = clean_name(self.cleaned_data["name"])
        except ValueError as error:
            raise forms.ValidationError(str(error)) from error
        if get_user_model().objects.filter(username__iexact=name).exists():
            raise forms.ValidationError("Somebody has registered this name. Pick another one, or sign in.")
        return name
