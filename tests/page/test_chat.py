"""Chatting in a real browser on a real instance."""

from __future__ import annotations

from collections.abc import Callable

from playwright.sync_api import expect

from tests.page.conftest import REASON, Server, Someone

Visit = Callable[..., Someone]

HOSTILE = [
    "<script>window.hacked=1</script>",
    "<img src=x onerror=window.hacked=1>",
    "<svg/onload=window.hacked=1>",
    "<iframe srcdoc='<script>parent.hacked=1</script>'>",
    '"><a href=javascript:window.hacked=1>click</a>',
    "javascript:window.hacked=1",
    "data:text/html,<script>window.hacked=1</script>",
    "{{constructor.constructor('window.hacked=1')()}}",
    "</textarea></title></style><script>window.hacked=1</script>",
    "<math><mtext><table><mglyph><style><!--</style><img title='--><img src onerror=window.hacked=1>'>",
    "\u202e<b>turned\u202c",
    "&lt;b&gt;not decoded&lt;/b&gt;",
]


def test_two_browsers_see_what_the_lambda_made_of_a_message(visit: Visit) -> None:
    alice, bob = visit().pick_name("Ada").enter("lobby"), visit().pick_name("Bo").enter("lobby")
    alice.say("I don't like how cabbage tastes")
    for person in (alice, bob):
        expect(person.message("I don't like how ******* tastes")).to_be_visible()
        expect(person.page.get_by_text("cabbage", exact=False)).to_have_count(0)
    expect(alice.page.get_by_text("Changed by a rule of this room")).to_be_visible()
    expect(bob.page.get_by_text("Changed by a rule of this room")).to_have_count(0)
    expect(bob.page.locator(".author").last).to_have_text("Ada")
    assert alice.problems == bob.problems == []


def test_an_image_link_becomes_an_image_that_opens(visit: Visit) -> None:
    ada = visit().pick_name("Ada").enter("lobby")
    ada.page.route("https://images.example/**", lambda route: route.fulfill(path="static/icon.svg"))
    ada.say("Look: https://images.example/field.png")
    ada.page.get_by_role("button", name="Open image").last.click()
    dialog = ada.page.get_by_role("dialog")
    expect(dialog.get_by_role("link", name="Open original")).to_have_attribute(
        "rel", "noopener noreferrer nofollow ugc"
    )
    ada.page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()
    assert ada.problems == []


def test_a_message_is_shown_at_once_and_once(visit: Visit) -> None:
    ada = visit().pick_name("Ada").enter("talk")
    ada.say("only once")
    expect(ada.message("only once")).to_have_count(1)
    expect(ada.page.locator(".message.is-published", has_text="only once")).to_have_count(1)
    ada.page.reload()
    ada.expect_live()
    expect(ada.message("only once")).to_have_count(1)


def test_shift_enter_starts_a_line_and_enter_sends(visit: Visit) -> None:
    ada = visit().pick_name("Ada").enter("talk")
    field = ada.page.locator("#composer-input")
    field.press_sequentially("first")
    field.press("Shift+Enter")
    field.press_sequentially("second")
    field.press("Enter")
    expect(ada.page.locator(".is-published .text").last).to_have_text("first\nsecond", use_inner_text=True)
    expect(field).to_have_value("")


def test_a_refused_message_keeps_its_text_and_says_why(visit: Visit) -> None:
    ada, bob = visit().pick_name("Ada").enter("talk"), visit().pick_name("Bo").enter("talk")
    ada.say("I brought a turnip")
    refused = ada.page.locator(".is-refused")
    expect(refused.locator(".reason")).to_have_text(REASON)
    expect(refused.locator(".text")).to_have_text("I brought a turnip")
    refused.get_by_role("button", name="Edit").click()
    expect(refused).to_have_count(0)
    expect(ada.page.locator("#composer-input")).to_have_value("I brought a turnip")
    expect(ada.page.locator("#composer-input")).to_be_focused()
    ada.say("I brought a carrot")
    expect(bob.message("I brought a carrot")).to_be_visible()
    expect(bob.page.get_by_text("turnip")).to_have_count(0)


def test_a_held_message_waits_where_only_its_author_sees_it(visit: Visit) -> None:
    ada, bob = visit().pick_name("Ada").enter("talk"), visit().pick_name("Bo").enter("talk")
    ada.say("a parsnip for the moderator")
    expect(ada.page.locator(".is-held")).to_contain_text("Waiting for a moderator")
    ada.say("and one that goes on")
    expect(ada.message("and one that goes on")).to_be_visible()
    expect(bob.page.get_by_text("parsnip")).to_have_count(0)


def test_hostile_texts_are_shown_as_texts(visit: Visit, server: Server) -> None:
    ada = visit().pick_name("Ada").enter("talk")
    server.publish("talk", *HOSTILE, client_id="<b onclick=window.hacked=1>eve")
    ada.page.locator(".text").filter(has_text="not decoded").last.wait_for()
    assert ada.texts()[-len(HOSTILE) :] == HOSTILE
    expect(ada.page.locator(".author").last).to_have_text("<b onclick=window.hacked=1>eve")
    assert ada.page.locator(".messages :is(script, iframe, img, style, [onerror], [href^='javascript'])").count() == 0
    assert ada.page.evaluate("window.hacked") is None
    assert ada.problems == []


def test_hostile_embeds_are_left_out(visit: Visit, server: Server) -> None:
    ada = visit().pick_name("Ada").enter("talk")
    urls = ["javascript:alert(1)", "data:text/html,<script>1</script>", "//x", 7, None, {"a": 1}]
    embeds = [{"type": "image", "url": url} for url in urls]
    server.publish("talk", {"data": "nothing to embed", "extras": {"embeds": embeds}})
    server.publish("talk", {"data": {"text": "an object"}, "extras": {"embeds": "no list"}})
    expect(ada.message("nothing to embed")).to_be_visible()
    expect(ada.page.locator(".text").last).to_contain_text('"text": "an object"')
    expect(ada.page.locator(".entry", has_text="nothing to embed").locator("img")).to_have_count(0)


def test_scripts_that_get_into_the_page_do_not_run(visit: Visit) -> None:
    ada = visit().pick_name("Ada").enter("talk")
    blocked = ada.page.evaluate(
        """() => new Promise((resolve) => {
            document.addEventListener("securitypolicyviolation", (event) => resolve(event.effectiveDirective));
            const script = document.createElement("script");
            script.textContent = "window.hacked = 1";
            document.body.append(script);
        })"""
    )
    assert blocked == "script-src-elem"
    assert ada.page.evaluate("window.hacked") is None


def test_what_is_written_is_still_there_after_a_reload(visit: Visit) -> None:
    ada = visit().pick_name("Ada").enter("talk")
    ada.page.locator("#composer-input").fill("half a thought")
    ada.page.reload()
    expect(ada.page.locator("#composer-input")).to_have_value("half a thought")


def test_a_text_that_is_too_long_is_counted_and_not_sent(visit: Visit) -> None:
    ada = visit().pick_name("Ada").enter("talk")
    ada.page.locator("#composer-input").fill("é" * 33_000)
    expect(ada.page.locator("#composer-counter")).to_contain_text("Too long by")
    expect(ada.page.get_by_role("button", name="Send")).to_be_disabled()
    ada.page.locator("#composer-input").press("Enter")
    expect(ada.page.locator(".is-sending, .is-refused")).to_have_count(0)


def test_a_user_signs_in_and_chats_under_the_own_name(visit: Visit) -> None:
    alice = visit()
    alice.page.goto(f"{alice.url}/rooms/talk/")
    alice.page.get_by_label("User name").fill("alice")
    alice.page.get_by_label("Password").fill("wonderland")
    alice.page.get_by_role("button", name="Sign in").click()
    alice.expect_live()
    alice.say("down the rabbit hole")
    entry = alice.page.locator(".entry", has_text="down the rabbit hole")
    expect(entry.locator(".author")).to_have_text("alice")
    expect(entry.get_by_text("guest")).to_have_count(0)
    alice.page.get_by_role("button", name="Sign out").click()
    expect(alice.page.get_by_role("heading", name="Welcome")).to_be_visible()


def test_a_room_that_nobody_has_spoken_in_says_so(visit: Visit) -> None:
    ada = visit().pick_name("Ada").enter("quiet")
    expect(ada.page.get_by_text("Nobody has said anything yet")).to_be_visible()


def test_a_phone_shows_the_room_and_nothing_beside_it(visit: Visit) -> None:
    ada = visit(viewport={"width": 390, "height": 844}, is_mobile=True, has_touch=True).pick_name("Ada").enter("talk")
    expect(ada.page.locator(".sidebar")).to_be_hidden()
    ada.say("w" * 400)
    expect(ada.message("w" * 400)).to_be_visible()
    assert ada.page.evaluate("document.documentElement.scrollWidth") == 390
    box = ada.page.locator("#composer").bounding_box()
    assert box is not None
    assert box["y"] + box["height"] <= 844
    ada.page.get_by_role("link", name="All rooms").click()
    expect(ada.page.get_by_role("heading", name="Rooms")).to_be_visible()


def test_the_header_says_how_many_are_here_and_nobody_can_fake_it(visit: Visit, server: Server) -> None:
    ada = visit().pick_name("Ada").enter("busy")
    here = ada.page.locator("#here-exact")
    expect(here).to_have_text("1")
    expect(ada.page.locator("#here")).to_have_attribute("title", "You are the only one here")
    bob = visit(viewport={"width": 390, "height": 844}, is_mobile=True).pick_name("Bo").enter("busy")
    expect(bob.page.locator("#here-short")).to_have_text("2")
    expect(bob.page.locator("#here-short")).to_be_visible()
    server.publish("busy", {"name": "[meta]occupancy", "data": {"metrics": {"subscribers": 100_000}}}, "after it")
    expect(ada.message("after it")).to_be_visible()
    expect(here).to_have_text("2")
    bob.page.close()
    expect(here).to_have_text("1")
    assert ada.problems == []
