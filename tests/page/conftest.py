"""A real instance with a few rooms, and people who look at it in a real Chromium."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.request
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any
from urllib.parse import quote

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

from tests.chromium import find_chromium
from tests.instance import ROOT, Instance
from tests.patience import PATIENCE

PHONE = {"width": 390, "height": 844}
DESK = {"width": 1280, "height": 800}
REASON = "No turnips in here, please."
PREPARE = f"""
from django.contrib.auth.models import User
from moderation.models import WordRule
from rooms.models import Room

for name in ("talk", "past", "quiet", "busy"):
    Room.objects.create(name=name, title=name.title(), listed=True, description="About " + name)
Room.objects.create(name="secret", title="Secret")
User.objects.create_user("alice", password="wonderland")
WordRule.objects.create(name="a", pattern="turnip", action="reject", room_filter="^talk$", reason={REASON!r})
WordRule.objects.create(name="b", pattern="parsnip", action="hold", room_filter="^talk$")
"""

expect.set_options(timeout=PATIENCE * 1000)


class Someone:
    """A person at a browser of their own."""

    def __init__(self, page: Page, url: str) -> None:
        self.page = page
        self.url = url
        self.problems: list[str] = []
        page.on("pageerror", lambda error: self.problems.append(str(error)))
        page.on("dialog", lambda dialog: self.problems.append(f"dialog {dialog.message}"))
        page.on("console", lambda line: self.problems.append(line.text) if "Content Security" in line.text else None)

    def pick_name(self, name: str) -> Someone:
        """Come in as a guest."""
        self.page.goto(f"{self.url}/")
        self.page.get_by_label("Your name").fill(name)
        self.page.get_by_role("button", name="Enter as a guest").click()
        expect(self.page.get_by_role("heading", name="Rooms")).to_be_visible()
        return self

    def enter(self, room: str) -> Someone:
        """Open a room and wait until it is live and its history is there."""
        self.page.goto(f"{self.url}/rooms/{quote(room)}/")
        self.expect_live()
        expect(self.page.locator("#skeleton")).to_be_hidden()
        return self

    def expect_live(self) -> None:
        expect(self.page.locator("#link")).to_have_attribute("data-link", "live")

    def say(self, text: str) -> None:
        """Type a message and send it by Enter."""
        self.page.locator("#composer-input").fill(text)
        self.page.locator("#composer-input").press("Enter")

    def message(self, text: str) -> Any:
        """The message with exactly this text."""
        return self.page.locator(".message").filter(has=self.page.get_by_text(text, exact=True))

    def texts(self) -> list[str]:
        """The texts in the page, from above."""
        return self.page.locator(".message .text").all_text_contents()


class Server:
    """The instance as the tests of the page use it."""

    def __init__(self, instance: Instance) -> None:
        self.instance = instance
        self.url = instance.url
        self.key = instance.key()

    def publish(self, room: str, *messages: dict[str, Any] | str, client_id: str = "bob") -> None:
        """Publish over REST, in order; a text stands for a message with it."""
        body = [
            {"name": "message", "clientId": client_id, **({"data": one} if isinstance(one, str) else one)}
            for one in messages
        ]
        request = urllib.request.Request(
            f"{self.url}/channels/{quote(room, safe='')}/messages",
            data=json.dumps(body).encode(),
            headers={
                "Content-Type": "application/json",
                "Authorization": f"Basic {b64encode(self.key.encode()).decode()}",
            },
        )
        with urllib.request.urlopen(request, timeout=PATIENCE) as response:
            assert response.status == 201


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    """One instance for all tests of the page; each test uses texts of its own."""
    with Instance.temporary() as instance:
        subprocess.run(
            [sys.executable, "manage.py", "shell", "--no-imports", "--command", PREPARE],
            cwd=ROOT,
            env=instance.environment(),
            check=True,
            timeout=PATIENCE,
        )
        yield Server(instance)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A Chromium. Not for the whole session: Playwright's loop would be in the way of asynchronous tests."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(**find_chromium().launch_options())
        yield browser
        browser.close()


@pytest.fixture
def visit(browser: Browser, server: Server) -> Iterator[Callable[..., Someone]]:
    """Make somebody with a browser of their own; keyword arguments are Playwright's for a context."""
    with ExitStack() as stack:

        def make(**options: Any) -> Someone:
            context: BrowserContext = browser.new_context(**({"viewport": DESK} | options))
            context.set_default_timeout(PATIENCE * 1000)
            stack.callback(context.close)
            return Someone(context.new_page(), server.url)

        yield make
