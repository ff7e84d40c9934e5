"""Chromium without a window, spoken to over its DevTools protocol (https://chromedevtools.github.io/devtools-protocol/)."""

import asyncio
import base64
import itertools
import json
import os
import re
import shutil
import tempfile

import websockets

from .needs import need
from .waiting import until_async

FLAGS = (
    "--headless=new", "--disable-gpu", "--no-first-run", "--no-default-browser-check", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--disable-extensions", "--disable-dev-shm-usage", "--remote-debugging-port=0",
    "--window-size=1280,900", "--force-color-profile=srgb",
)


def program():
    """Where it is."""
    found = shutil.which("chromium") or shutil.which("google-chrome")
    need(found, "there is no browser: deploy/setup.sh test installs the Debian package chromium")
    return found


class Page:
    """One page. `errors` are what it complained of, `asked` the addresses that it asked for."""

    def __init__(self, url):
        self.url, self.errors, self.asked = url, [], []
        self.numbers, self.answers = itertools.count(1), {}

    async def __aenter__(self):
        self.profile = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        # Its sandbox does not work for root, who runs tests in containers.
        sandbox = ["--no-sandbox"] if os.geteuid() == 0 else []
        self.process = await asyncio.create_subprocess_exec(
            program(), *FLAGS, *sandbox, f"--user-data-dir={self.profile.name}", "about:blank",
            stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE)
        try:
            await self._open()
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def _open(self):
        said = b""
        while not (found := re.search(rb"listening on (ws://\S+)", said)):
            line = await asyncio.wait_for(self.process.stderr.readline(), 60)
            assert line, f"the browser ended: {said.decode(errors='replace')}"
            said += line
        self.draining = asyncio.create_task(self._drain())
        self.socket = await websockets.connect(found[1].decode(), max_size=None)
        self.reading = asyncio.create_task(self._read())
        self.session = None
        target = (await self.call("Target.createTarget", url="about:blank"))["targetId"]
        self.session = (await self.call("Target.attachToTarget", targetId=target, flatten=True))["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            await self.call(f"{domain}.enable")
        await self.call("Page.navigate", url=self.url)
        await self.shows("document.readyState === 'complete'")

    async def __aexit__(self, *_):
        for task in ("reading", "draining"):
            if hasattr(self, task):
                getattr(self, task).cancel()
        if hasattr(self, "socket"):
            await self.socket.close()
        if self.process.returncode is None:
            self.process.kill()
        await self.process.wait()
        self.profile.cleanup()

    async def _drain(self):
        while await self.process.stderr.readline():
            pass

    async def _read(self):
        async for text in self.socket:
            told = json.loads(text)
            if "id" in told:
                self.answers.pop(told["id"]).set_result(told)
                continue
            method, of = told["method"], told["params"]
            if method == "Runtime.exceptionThrown":
                self.errors.append(of["exceptionDetails"].get("exception", {}).get("description") or of["exceptionDetails"]["text"])
            elif method == "Log.entryAdded" and of["entry"]["level"] == "error":
                self.errors.append(of["entry"]["text"])
            elif method == "Network.requestWillBeSent":
                self.asked.append(of["request"]["url"])
            elif method == "Network.webSocketCreated":
                self.asked.append(of["url"])

    async def call(self, method, **parameters):
        """One command of the protocol; its result."""
        number = next(self.numbers)
        self.answers[number] = asyncio.get_running_loop().create_future()
        frame = {"id": number, "method": method, "params": parameters}
        if self.session:
            frame["sessionId"] = self.session
        answer = self.answers[number]
        await self.socket.send(json.dumps(frame))
        told = await asyncio.wait_for(answer, 30)
        assert "error" not in told, (method, told)
        return told["result"]

    async def value(self, expression):
        """What a JavaScript expression is on the page."""
        told = await self.call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in told, (expression, told["exceptionDetails"])
        return told["result"].get("value")

    async def shows(self, expression, deadline_s=20):
        """Waits until the expression is true."""

        async def holds():
            return await self.value(expression)

        await until_async(holds, expression, deadline_s)

    async def press(self, selector):
        """Clicks where a person would."""
        found = await self.value(
            f"(() => {{ const at = document.querySelector({json.dumps(selector)}).getBoundingClientRect();"
            " return [at.x + at.width / 2, at.y + at.height / 2] })()")
        for kind in ("mousePressed", "mouseReleased"):
            await self.call("Input.dispatchMouseEvent", type=kind, x=found[0], y=found[1], button="left", clickCount=1)

    async def type(self, selector, text):
        """Types into a field, and ends with Enter."""
        await self.press(selector)
        await self.call("Input.insertText", text=text)
        for kind in ("keyDown", "keyUp"):
            await self.call("Input.dispatchKeyEvent", type=kind, key="Enter", code="Enter", windowsVirtualKeyCode=13, text="\r")

    async def picture(self, path):
        """Writes what is seen as a PNG."""
        told = await self.call("Page.captureScreenshot", format="png")
        with open(path, "wb") as file:
            file.write(base64.b64decode(told["data"]))
