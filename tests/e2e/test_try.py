"""The page that shows two people and their frames, in a browser, as somebody who has just installed it sees it."""

import os

from harness.browser import Page

ALICE, BOB = ".pane:not(.b)", ".pane.b"


def seen(pane, text):
    """JavaScript: whether a message with that text is shown there."""
    return f"[...document.querySelectorAll('{pane} .msg .text')].filter(at => at.textContent === {text!r}).length === 1"


async def test_on_the_page_two_people_chat_with_ticks_lose_nothing_while_away_and_ask_who_decided(start):
    server = start(mode="dev")
    async with Page(f"http://{server.admin}/try") as page:
        for pane in (ALICE, BOB):
            await page.shows(f"document.querySelector('{pane} .word').textContent === 'connected'")
        await page.type(f"{ALICE} .say input", "hello from a browser")
        await page.shows(seen(BOB, "hello from a browser"))
        await page.shows(f"document.querySelector('{ALICE} .msg.own .tick.read') !== null")
        await page.shows(f"document.querySelector('{BOB} .seen').textContent === 'alice is online'")

        # The frames beneath are those that travelled, and an opened one shows all of it.
        types = "[...document.querySelectorAll('#rows .type')].map(at => at.textContent)"
        assert {"hello", "hello_ok", "chat_message", "accepted", "new_message", "receipt", "read_receipt"} <= set(await page.value(types))
        await page.value("[...document.querySelectorAll('#rows li')].find(at => at.querySelector('.type').textContent === 'accepted')"
                         ".querySelector('summary').click()")
        await page.shows("[...document.querySelectorAll('#rows pre')].some(at => at.textContent.includes('message_id'))")

        # He goes away, is written to, and finds it once.
        await page.press(f"{BOB} .line")
        await page.shows(f"document.querySelector('{BOB} .word').textContent === 'not connected'")
        await page.type(f"{ALICE} .say input", "while you are away")
        await page.shows(f"[...document.querySelectorAll('{ALICE} .msg.own')].at(-1).querySelector('.tick.sent') !== null")
        await page.press(f"{BOB} .line")
        await page.shows(seen(BOB, "while you are away"))
        await page.shows(f"document.querySelectorAll('{ALICE} .msg.own .tick.read').length === 2")

        # A tab is a device: loaded again it shows what it had, and nothing twice.
        await page.call("Page.reload")
        await page.shows(f"document.querySelectorAll('{BOB} .msg').length === 2 && "
                         f"document.querySelector('{BOB} .word').textContent === 'connected'")

        if folder := os.environ.get("HEDDLE_E2E_PICTURES"):
            await page.picture(os.path.join(folder, "try.png"))
        await page.press(f"{ALICE} .msg.own .meta button")
        await page.shows("document.querySelectorAll('#why tr').length > 2")
        told = await page.value("document.querySelector('#why').innerText")
        assert "inbox-routing" in told and "Generation 1" in told and "µs" in told
        assert page.errors == []
        own = (f"http://{server.admin}/", f"http://{server.client}/", f"ws://{server.client}/", "data:", "about:")
        assert [url for url in page.asked if not url.startswith(own)] == [], "the page asks others"
