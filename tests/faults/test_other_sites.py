"""A page of another site is open in the browser of somebody who is signed in here."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from playwright.async_api import Browser, Page

from rooms.protocol.wire import Action
from tests.instance import Instance

pytestmark = pytest.mark.usefixtures("quiet_clients")

ASK_FOR_A_TOKEN = """async (url) => {
    const answers = [];
    for (const mode of ["cors", "no-cors"]) {
        try {
            const response = await fetch(url + "/auth", { credentials: "include", mode });
            answers.push(await response.text());
        } catch (error) {
            answers.push("");
        }
    }
    return answers.join("");
}"""
CONNECT = """(url) => new Promise((done) => {
    const received = [];
    const socket = new WebSocket(url.replace("http", "ws") + "/?format=json&v=3");
    socket.onmessage = (event) => received.push(JSON.parse(event.data));
    socket.onclose = () => done(received);
})"""


@asynccontextmanager
async def signed_in(browser: Browser, instance: Instance) -> AsyncIterator[Page]:
    """Yield a page of somebody who picked a name on the server's own page."""
    context = await browser.new_context()
    page = await context.new_page()
    await page.goto(f"{instance.url}/")
    await page.get_by_label("Your name").fill("Alice")
    await page.get_by_role("button", name="Enter as a guest").click()
    await page.get_by_role("heading", name="Rooms").wait_for()
    yield page
    await context.close()


class EmptyPage(BaseHTTPRequestHandler):
    """Answers every request with a page of nothing."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def other_port() -> Iterator[int]:
    """The port of another site on this machine."""
    with ThreadingHTTPServer(("127.0.0.1", 0), EmptyPage) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_port
        server.shutdown()


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"], ids=["same site", "cross site"])
async def test_another_site_gets_neither_token_nor_connection_by_the_cookie_of_who_visits_it(
    instance: Instance, browser: Browser, other_port: int, host: str
) -> None:
    async with signed_in(browser, instance) as page:
        assert '"token"' in await page.evaluate(ASK_FOR_A_TOKEN, instance.url)
        other = await page.context.new_page()
        await other.goto(f"http://{host}:{other_port}/")
        assert "token" not in await other.evaluate(ASK_FOR_A_TOKEN, instance.url)
        received: list[dict[str, Any]] = await other.evaluate(CONNECT, instance.url)
    assert [(message["action"], message["error"]["code"]) for message in received] == [(Action.ERROR, 40106)]
