"""web: the codec in a page of this machine's browser."""

import re
import shutil
from functools import lru_cache
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Annotated

import typer

from rdcodec.cli import io
from rdcodec.errors import NeedsModel, RdcError

PAGE = Path(__file__).parents[1] / "web"
SAMPLE = PAGE.parent / "data" / "astronaut.png"
MODELS = ("H", "I", "J")
TYPES = {".js": "text/javascript", ".wasm": "application/wasm", ".safetensors": "application/octet-stream"}
HEADERS = {  # nothing but this server is reached, and only what is new is fetched again
    "Content-Security-Policy": "default-src 'self'; connect-src 'self' blob: data:; img-src 'self' blob: data:; "
    "style-src 'self' 'unsafe-inline'; script-src 'self' 'wasm-unsafe-eval'",
    "Cache-Control": "no-cache",
    "X-Content-Type-Options": "nosniff",
}


def web(
    port: Annotated[int, typer.Option("--port", min=0, max=65535, metavar="N", help="0: any that is free.")] = 8090,
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", metavar="DIR", help="Write the page as files for a web server."),
    ] = None,
    verbose: io.Verbose = 0,
) -> None:
    """Serve a page that compresses and shows pictures in the browser. Nothing leaves the machine.

    `rdc web` alone prints the address of the page; interrupt it to end it. The page works without a network after the
    first visit.

    Example: [bold]rdc web -o site[/bold]
    """
    if output is not None:
        write_page(output)
        io.write_text(f"{output}\n")
        return
    try:
        server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    except OSError as error:
        raise RdcError(f"port {port} cannot be used ({error.strerror}): give another with --port") from None
    with server:
        io.write_text(f"http://localhost:{server.server_address[1]}/\n")
        server.serve_forever()


class Handler(SimpleHTTPRequestHandler):
    """The files of the page, and the weights of this machine as `models.for_pages` cuts them."""

    extensions_map = SimpleHTTPRequestHandler.extensions_map | TYPES

    def __init__(self, *arguments: object) -> None:
        super().__init__(*arguments, directory=str(PAGE))  # type: ignore[arg-type]

    def translate_path(self, path: str) -> str:
        return str(SAMPLE) if path == "/sample.png" else super().translate_path(path)

    def do_GET(self) -> None:
        asked = re.fullmatch(r"/weights/([^/]+)\.(decoder|encoder)\.safetensors", self.path)
        if not asked:
            super().do_GET()
            return
        try:
            data = _part(*asked.groups())
        except NeedsModel:
            self.send_error(404, "no such weights here")
            return
        self.send_response(200)
        self.send_header("Content-Type", TYPES[".safetensors"])
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def end_headers(self) -> None:
        for name, value in HEADERS.items():
            self.send_header(name, value)
        super().end_headers()

    def log_message(self, format: str, *arguments: object) -> None:
        io.logger.debug(format, *arguments)


@lru_cache(maxsize=4)
def _part(tag: str, part: str) -> bytes:
    from rdcodec.models.for_pages import part_of
    from rdcodec.models.weights import released

    if tag not in (tags := released()):
        raise NeedsModel(f"no weights {tag} are here")
    return part_of(tags[tag], part)


def write_page(output: Path) -> None:
    """The page, and the newest weights of each of its models."""
    from rdcodec.models.weights import newest_tag, released
    from rdcodec.system import write_whole

    shutil.copytree(PAGE, output, dirs_exist_ok=True)
    shutil.copyfile(SAMPLE, output / "sample.png")
    (output / "weights").mkdir(exist_ok=True)
    for tag in filter(None, (newest_tag(name, released()) for name in MODELS)):
        for part in ("decoder", "encoder"):
            write_whole(output / "weights" / f"{tag}.{part}.safetensors", _part(tag, part))
