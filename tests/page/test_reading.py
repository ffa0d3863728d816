"""Reading back, reading on, and losing the connection, in a real browser on a real instance."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from playwright.sync_api import Route, expect

from tests.page.conftest import Server, Someone

Visit = Callable[..., Someone]
MESSAGES = 460
MAX_ROWS = 300


@pytest.fixture(scope="module")
def past(server: Server) -> None:
    """A room with more messages than the page keeps in sight."""
    texts = [f"past {n}" for n in range(MESSAGES)]
    for start in range(0, MESSAGES, 100):
        server.publish("past", *texts[start : start + 100])


def scroll_up_to(someone: Someone, text: str) -> None:
    """Scroll upwards until a message comes into sight, each time after what was loaded is there."""
    someone.page.locator("#scroller").hover()
    for _ in range(200):
        if someone.page.get_by_text(text, exact=True).count():
            return
        first = someone.texts()[0]
        someone.page.mouse.wheel(0, -2_000)
        someone.page.wait_for_function(
            """(first) => document.querySelector(".message .text").textContent !== first
                || document.querySelector("#scroller").scrollTop > 0""",
            arg=first,
        )
    raise AssertionError(f"{text} never came")


@pytest.mark.usefixtures("past")
def test_history_comes_as_one_scrolls_up_without_a_hole(visit: Visit) -> None:
    ada = visit().pick_name("Ada").enter("past")
    expect(ada.message(f"past {MESSAGES - 1}")).to_be_in_viewport()
    assert len(ada.texts()) < MESSAGES / 2
    scroll_up_to(ada, "past 0")
    expect(ada.page.get_by_text("This is where the room begins")).to_be_visible()
    shown = [int(text.removeprefix("past ")) for text in ada.texts()]
    assert shown == list(range(len(shown)))
    assert len(shown) <= MAX_ROWS
    ada.page.get_by_role("button", name="Jump to latest").click()
    expect(ada.message(f"past {MESSAGES - 1}")).to_be_in_viewport()


@pytest.mark.usefixtures("past")
def test_what_one_reads_stays_where_it_is_when_older_messages_come(visit: Visit) -> None:
    ada = visit().pick_name("Ada").enter("past")
    held: list[Route] = []
    ada.page.route("**/channels/past/messages?**", lambda route: held.append(route))
    with ada.page.expect_request("**/channels/past/messages?**"):
        # Repeated, because a page that is on its way already may push the top away.
        ada.page.evaluate("pull = setInterval(() => (document.querySelector('#scroller').scrollTop = 0), 20)")
    ada.page.evaluate("clearInterval(pull)")
    first = ada.texts()[0]
    place = ada.message(first).bounding_box()
    for route in held:
        route.continue_()
    ada.page.wait_for_function("(first) => document.querySelector('.text').textContent !== first", arg=first)
    assert ada.message(first).bounding_box()["y"] == pytest.approx(place["y"], abs=2)


def test_messages_that_come_while_one_reads_back_are_counted_and_do_not_move_the_page(
    visit: Visit, server: Server, past: None
) -> None:
    ada = visit().pick_name("Ada").enter("past")
    ada.page.locator("#scroller").hover()
    ada.page.mouse.wheel(0, -1_500)
    expect(ada.page.get_by_role("button", name="Jump to latest")).to_be_visible()
    place = ada.page.evaluate("document.querySelector('#scroller').scrollTop")
    server.publish("past", "late one", "late two")
    pill = ada.page.get_by_role("button", name="2 new messages")
    expect(pill).to_be_visible()
    expect(ada.page).to_have_title("(2) Past · Chatsite")
    assert ada.page.evaluate("document.querySelector('#scroller').scrollTop") >= place
    pill.click()
    expect(ada.message("late two")).to_be_in_viewport()
    expect(ada.page.locator(".line.new")).to_be_visible()
    expect(ada.page).to_have_title("Past · Chatsite")


def test_without_a_network_one_writes_on_and_all_is_sent_afterwards(visit: Visit, server: Server) -> None:
    ada, bob = visit().pick_name("Ada").enter("talk"), visit().pick_name("Bo").enter("talk")
    ada.page.context.set_offline(True)
    expect(ada.page.locator("#banner")).to_be_visible()
    ada.say("written in a tunnel")
    expect(ada.page.locator(".is-queued")).to_contain_text("Waits for the connection")
    server.publish("talk", "said meanwhile")
    ada.page.context.set_offline(False)
    ada.expect_live()
    expect(ada.page.locator("#banner")).to_be_hidden()
    for person in (ada, bob):
        expect(person.message("written in a tunnel")).to_have_count(1)
        expect(person.message("said meanwhile")).to_have_count(1)
    expect(ada.page.locator(".is-queued, .is-sending")).to_have_count(0)


def test_a_gateway_that_dies_costs_nobody_a_message(visit: Visit, server: Server) -> None:
    ada = visit().pick_name("Ada").enter("talk")
    ada.say("before the fall")
    expect(ada.page.locator(".is-published", has_text="before the fall")).to_have_count(1)
    server.instance.kill("gateway-1")
    ada.say("while it is down")
    ada.expect_live()
    expect(ada.page.locator(".is-published", has_text="while it is down")).to_have_count(1)
    ada.page.reload()
    ada.expect_live()
    for text in ("before the fall", "while it is down"):
        expect(ada.message(text)).to_have_count(1)
