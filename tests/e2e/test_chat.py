"""The terminal client as somebody sees it: on a terminal, keys in, the screen read."""

import asyncio

from harness.device import Device
from harness.terminal import Terminal
from harness.waiting import until_async


async def _shows(chat, pattern):
    """Waits for it while the other side goes on living; answers the match."""
    return await asyncio.to_thread(chat.shows, pattern, 20)


async def test_alice_chats_asks_why_opens_a_group_goes_away_and_finds_what_she_missed(start):
    server = start(mode="dev")
    # Without the bot nobody knows anybody.
    server.rest("bob").put("/v1/contacts/alice").ok()
    chat = Terminal("chat", "--user", "alice", "--to", "bob", "--data", server.data)
    async with Device(server, "bob") as bob, Device(server, "carol") as carol:
        try:
            await _shows(chat, r"generation 1\b")
            await _shows(chat, r"● bob")
            await bob.frame({"type": "typing_start", "to": "alice"})
            await _shows(chat, r"bob types")
            await bob.say("alice", "are you there?")
            await _shows(chat, r"are you there\?")
            chat.type("here I am\r")
            got = await bob.next("new_message", text="here I am")
            await bob.ack()
            await _shows(chat, r"✓✓.*\n.*here I am")
            await bob.frame({"type": "read_receipt", "message_id": got["message_id"]})

            chat.type("/why\r")
            decided = server.explained(got["message_id"])
            for plugin in ("token-bucket", "inbox-routing"):
                await _shows(chat, rf"{plugin} .*\d+ µs")
            await _shows(chat, rf"generation\s+{decided['generation']}\b")

            chat.type("/group weavers bob carol\r")
            group = (await carol.next("membership", user="carol"))["group"]
            await _shows(chat, r"weavers")
            chat.type("to all of you\r")
            assert (await carol.next("new_message", text="to all of you"))["group"] == group
            assert (await bob.next("new_message", text="to all of you"))["from"] == "alice"
            await carol.say(group=group, text="an answer of carol's")
            await _shows(chat, r"an answer of carol's")

            chat.type("\x03")
            await until_async(lambda: chat.child.poll() is not None, "Ctrl-C ends it")
            assert chat.child.returncode == 0
        finally:
            chat.close()
        for number in range(3):
            await bob.say("alice", f"missed {number}")
        again = Terminal("chat", "--user", "alice", "--to", "bob", "--data", server.data)
        try:
            await _shows(again, r"3 missed messages are here")
            seen = again.shows(r"(?s)here I am.*missed 0.*missed 1.*missed 2")
            assert seen.group().count("missed 1") == 1, seen
        finally:
            again.close()
        # It was told nothing since it came, and counts on all the same.
        later = Terminal("chat", "--user", "alice", "--to", "bob", "--data", server.data)
        try:
            await _shows(later, r"missed 2")
            later.type("back for good\r")
            await _shows(later, r"(?s)missed 2.*alice  now  ✓.*back for good")
        finally:
            later.close()
