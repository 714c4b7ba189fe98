"""Chromium by WebDriver, in plain HTTP: as much of it as the tests of pages need."""

import base64
import json
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

DRIVER, CHROMIUM = shutil.which("chromedriver"), shutil.which("chromium")
OPTIONS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update"),
)


class Browser:
    """One window."""

    def __init__(self, driver: str, profile: Path) -> None:
        self._driver = driver
        chrome = {"args": [*OPTIONS, f"--user-data-dir={profile}"], "binary": CHROMIUM}
        asked = {"goog:chromeOptions": chrome, "goog:loggingPrefs": {"browser": "ALL"}, "timeouts": {"script": 280_000}}
        self._session = self._call("POST", "/session", {"capabilities": {"alwaysMatch": asked}})["sessionId"]

    def _call(self, method: str, path: str, body: Any = None) -> Any:
        data = None if method == "GET" else json.dumps(body or {}).encode()
        request = Request(self._driver + path, data, {"Content-Type": "application/json"}, method=method)
        with urlopen(request, timeout=300) as response:
            return json.load(response)["value"]

    def _in_session(self, path: str, body: Any = None, method: str = "POST") -> Any:
        return self._call(method, f"/session/{self._session}{path}", body)

    def open(self, url: str) -> None:
        self._in_session("/url", {"url": url})

    def run(self, script: str, *arguments: Any) -> Any:
        """What an async function of this text, with `arguments`, returns; what it throws is its text."""
        wrapped = (
            "const done = arguments[arguments.length - 1];"
            f"(async (...given) => {{ {script} }})(...[...arguments].slice(0, -1))"
            ".then((value) => done({ value }), (error) => done({ error: String(error?.stack ?? error) }));"
        )
        found = self._in_session("/execute/async", {"script": wrapped, "args": list(arguments)})
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
        element = self._in_session("/element", {"using": "css selector", "value": css})
        self._in_session(f"/element/{next(iter(element.values()))}/value", {"text": str(path)})

    def devtools(self, command: str, **parameters: Any) -> Any:
        return self._in_session("/goog/cdp/execute", {"cmd": command, "params": parameters})

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
        """Warnings and errors on the console since the last call."""
        entries = self._in_session("/se/log", {"type": "browser"})
        return [entry["message"] for entry in entries if entry["level"] in ("SEVERE", "WARNING")]

    def close(self) -> None:
        self._in_session("", method="DELETE")


@contextmanager
def browser(folder: Path) -> Iterator[Browser]:
    """Chromium with an empty profile in `folder`."""
    process = subprocess.Popen([str(DRIVER), "--port=0"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        assert process.stdout
        line = next(line for line in process.stdout if "successfully on port" in line)
        opened = Browser(f"http://127.0.0.1:{line.split()[-1].rstrip('.')}", folder / "profile")
        try:
            yield opened
        finally:
            opened.close()
    finally:
        process.terminate()
        process.wait(10)


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
