"""Waiting for a condition with a deadline: the only way in which these tests let time pass."""

import asyncio
import time

DEADLINE_S = 15.0
POLL_S = 0.02


class NotInTime(AssertionError):
    """The condition did not come true before the deadline."""


def until(condition, what, deadline_s=DEADLINE_S):
    """Polls `condition` until it is truthy, and returns its value."""
    end = time.monotonic() + deadline_s
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise NotInTime(f"not within {deadline_s} s: {what}")
        time.sleep(POLL_S)


async def until_steady(value, what, for_s, deadline_s=DEADLINE_S * 4):
    """Waits until `value()` was the same for so many seconds, and returns it."""
    seen = since = None

    def steady():
        nonlocal seen, since
        found, now = value(), time.monotonic()
        if since is None or found != seen:
            seen, since = found, now
        return now - since >= for_s

    await until_async(steady, what, deadline_s)
    return seen


async def until_async(condition, what, deadline_s=DEADLINE_S):
    """As `until`, for conditions that may be coroutines."""
    end = time.monotonic() + deadline_s
    while True:
        value = condition()
        if asyncio.iscoroutine(value):
            value = await value
        if value:
            return value
        if time.monotonic() > end:
            raise NotInTime(f"not within {deadline_s} s: {what}")
        await asyncio.sleep(POLL_S)
