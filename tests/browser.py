"""Chromium by WebDriver in plain HTTP, Firefox by Marionette: as much of them as the tests of pages need."""

import base64
import json
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

DRIVER, CHROMIUM = shutil.which("chromedriver"), shutil.which("chromium")
FIREFOX = shutil.which("firefox-esr") or shutil.which("firefox")
OPTIONS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update"),
)
SCRIPT_MS = 280_000


class Browser:
    """One window. `command` sends what WebDriver calls by this path, in a session."""

    downloads: Path  # where it saves

    def command(self, path: str, body: dict[str, Any]) -> Any:
        raise NotImplementedError

    def open(self, url: str) -> None:
        self.command("/url", {"url": url})

    def run(self, script: str, *arguments: Any) -> Any:
        """What an async function of this text, with `arguments`, returns; what it throws is its text."""
        wrapped = (
            "const done = arguments[arguments.length - 1];"
            f"(async (...given) => {{ {script} }})(...[...arguments].slice(0, -1))"
            ".then((value) => done({ value }), (error) => done({ error: String(error?.stack ?? error) }));"
        )
        found = self.command("/execute/async", {"script": wrapped, "args": list(arguments)})
        assert "error" not in found, found["error"]
        return found.get("value")

    def wait(self, condition: str, seconds: float = 120) -> None:
        """Until an expression holds."""
        end = time.monotonic() + seconds
        while not self.run(f"return Boolean({condition});"):
            assert time.monotonic() < end, f"{condition}: not in {seconds} s"
            time.sleep(0.1)

    def choose(self, css: str, path: Path) -> None:
        """A file, in an input."""
        element = self.command("/element", {"using": "css selector", "value": css})
        self.command("/element/value", {"id": next(iter(element.values())), "text": str(path)})

    def press(self, *keys: str) -> None:
        """Keys one after the other, as WebDriver writes them: "a", or "\ue004" for Tab."""
        steps = [{"type": way, "value": key} for key in keys for way in ("keyDown", "keyUp")]
        self.command("/actions", {"actions": [{"type": "key", "id": "keys", "actions": steps}]})

    def saved(self, name: str, seconds: float = 60) -> bytes:
        """A file that the page lets the browser save, when it is whole; it is moved away, for the next of this name."""
        path, end = self.downloads / name, time.monotonic() + seconds
        while not path.exists() or path.stat().st_size == 0 or any(self.downloads.glob("*.part")):
            assert time.monotonic() < end, f"{name}: not in {seconds} s"
            time.sleep(0.1)
        data = path.read_bytes()
        path.unlink()
        return data

    def complaints(self) -> list[str]:
        """Warnings and errors on the console since the last call, where the browser tells them."""
        return []


class Chromium(Browser):
    def __init__(self, driver: str, profile: Path) -> None:
        self._driver = driver
        self.downloads = profile.with_name("downloads")
        chrome = {
            "args": [*OPTIONS, f"--user-data-dir={profile}"],
            "binary": CHROMIUM,
            "prefs": {"download.default_directory": str(self.downloads), "download.prompt_for_download": False},
        }
        asked = {
            "goog:chromeOptions": chrome,
            "goog:loggingPrefs": {"browser": "ALL"},
            "timeouts": {"script": SCRIPT_MS},
        }
        self._session = self._call("POST", "/session", {"capabilities": {"alwaysMatch": asked}})["sessionId"]

    def _call(self, method: str, path: str, body: Any = None) -> Any:
        data = None if method == "GET" else json.dumps(body or {}).encode()
        request = Request(self._driver + path, data, {"Content-Type": "application/json"}, method=method)
        with urlopen(request, timeout=300) as response:
            return json.load(response)["value"]

    def command(self, path: str, body: dict[str, Any]) -> Any:
        if "id" in body:
            path = path.replace("/element/", f"/element/{body.pop('id')}/")
        return self._call("POST", f"/session/{self._session}{path}", body)

    def devtools(self, command: str, **parameters: Any) -> Any:
        return self.command("/goog/cdp/execute", {"cmd": command, "params": parameters})

    def look(self, path: Path, width: int, height: int = 900, dark: bool = False) -> None:
        """A picture of the whole page on a screen of this width."""
        scheme = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        self.devtools("Emulation.setEmulatedMedia", features=scheme)
        self.devtools(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600
        )
        time.sleep(0.3)
        shot = self.devtools("Page.captureScreenshot", captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(shot["data"]))

    def complaints(self) -> list[str]:
        entries = self.command("/se/log", {"type": "browser"})
        return [entry["message"] for entry in entries if entry["level"] in ("SEVERE", "WARNING")]

    def close(self) -> None:
        self._call("DELETE", f"/session/{self._session}")


MARIONETTE = {  # names of WebDriver's calls there
    "/url": "Navigate",
    "/execute/async": "ExecuteAsyncScript",
    "/element": "FindElement",
    "/element/value": "ElementSendKeys",
    "/actions": "PerformActions",
    "/session": "NewSession",
}


class Firefox(Browser):
    """Messages are `LENGTH:[0, number, command, parameters]`, their answers `LENGTH:[1, number, error, result]`."""

    def __init__(self, port: int, downloads: Path) -> None:
        self.downloads = downloads
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=300)
        self._answers = self._socket.makefile("rb")
        self._take()  # its greeting
        self._number = 0
        self.command("/session", {"capabilities": {"alwaysMatch": {"timeouts": {"script": SCRIPT_MS}}}})

    def _take(self) -> Any:
        length = b""
        while (digit := self._answers.read(1)) != b":":
            assert digit, "Firefox has ended"
            length += digit
        return json.loads(self._answers.read(int(length)))

    def command(self, path: str, body: dict[str, Any]) -> Any:
        self._number += 1
        message = json.dumps([0, self._number, f"WebDriver:{MARIONETTE[path]}", body]).encode()
        self._socket.sendall(b"%d:%s" % (len(message), message))
        _, _, error, result = self._take()
        assert error is None, f"{error['error']}: {error['message']}"
        return result["value"] if set(result) == {"value"} else result

    def close(self) -> None:
        self._socket.close()


@contextmanager
def browser(folder: Path) -> Iterator[Chromium]:
    """Chromium with an empty profile in `folder`."""
    process = subprocess.Popen([str(DRIVER), "--port=0"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        assert process.stdout
        line = next(line for line in process.stdout if "successfully on port" in line)
        opened = Chromium(f"http://127.0.0.1:{line.split()[-1].rstrip('.')}", folder / "profile")
        try:
            yield opened
        finally:
            opened.close()
    finally:
        process.terminate()
        process.wait(10)


@contextmanager
def firefox(folder: Path) -> Iterator[Firefox]:
    """Firefox with an empty profile in `folder`."""
    profile = folder / "firefox"
    profile.mkdir()
    downloads = folder / "downloads"
    settings = {
        **{"marionette.port": 0, "datareporting.policy.dataSubmissionEnabled": False, "app.update.auto": False},
        **{"browser.download.folderList": 2, "browser.download.dir": str(downloads)},
        **{
            "browser.download.alwaysOpenPanel": False,
            "browser.helperApps.neverAsk.saveToDisk": "application/octet-stream",
        },
    }
    lines = [f'user_pref("{name}", {json.dumps(value)});\n' for name, value in settings.items()]
    (profile / "user.js").write_text("".join(lines))
    command = [str(FIREFOX), "--headless", "--marionette", "--no-remote", "--profile", str(profile)]
    home = {**os.environ, "HOME": str(folder), "MOZ_DISABLE_CONTENT_SANDBOX": "1"}
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=home)
    try:
        port = profile / "MarionetteActivePort"
        end = time.monotonic() + 120
        while not (port.exists() and port.read_text()):
            assert process.poll() is None and time.monotonic() < end, "Firefox does not start"
            time.sleep(0.1)
        opened = Firefox(int(port.read_text()), downloads)
        try:
            yield opened
        finally:
            opened.close()
    finally:
        process.terminate()
        process.wait(30)


@contextmanager
def served(*command: str | Path) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """The address that a server's first line names."""
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout
        yield process.stdout.readline().strip(), process
    finally:
        process.terminate()
        process.wait(10)
