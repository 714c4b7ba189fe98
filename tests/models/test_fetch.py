"""Weights come from a server whole or not at all, whatever the server does."""

import hashlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from rdcodec.cli.main import main
from rdcodec.errors import NeedsModel, RdcError, UsageError
from rdcodec.models import elsewhere as pins
from rdcodec.models import fetch as fetching
from rdcodec.models.elsewhere import Pinned, elsewhere, pin, user_folder
from rdcodec.models.fetch import ADDRESS, find_tag, get_weights
from rdcodec.models.weights import PACKAGED, find_weights, released

CHECKOUT = Path(__file__).parents[2] / "weights"
FIRST, SECOND = bytes(range(256)) * 9, b"second" * 500
FILES = {"G.7.safetensors": FIRST, "G.7.piece-2.safetensors": SECOND}


class Server(ThreadingHTTPServer):
    """Serves `files`, as badly as it is told to."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files = dict(FILES)
        self.asked: list[tuple[str, str | None]] = []  # name and range
        self.has_ranges = True
        self.most = 1 << 30  # bytes of an answer, after which the connection ends
        self.stalls = False  # instead of ending
        self.wrong_start = False
        self.tells_size = True
        self.status = 200
        self.ended = threading.Event()


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        server, name = self.server, self.path.removeprefix("/weights/")
        wanted = self.headers.get("Range")
        server.asked.append((name, wanted))
        if name not in server.files or server.status != 200:
            self.send_error(404 if server.status == 200 else server.status)
            return
        data = server.files[name]
        start = int(wanted.removeprefix("bytes=").removesuffix("-")) if wanted and server.has_ranges else 0
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start + server.wrong_start}-{len(data) - 1}/{len(data)}")
        if server.tells_size:
            self.send_header("Content-Length", str(len(data) - start))
        self.end_headers()
        self.wfile.write(data[start : start + server.most])
        self.wfile.flush()
        if server.stalls and start + server.most < len(data):
            server.ended.wait()

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    table = {name: {"bytes": len(d), "sha256": hashlib.sha256(d).hexdigest()} for name, d in FILES.items()}
    (tmp_path / "table.json").write_text(json.dumps(table))
    monkeypatch.setattr(pins, "TABLE", tmp_path / "table.json")
    monkeypatch.setattr(fetching, "PAUSE_S", 0)
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    elsewhere.cache_clear()
    made = Server()
    monkeypatch.setenv(ADDRESS, f"http://127.0.0.1:{made.server_port}/weights/")
    thread = threading.Thread(target=made.serve_forever, args=(0.01,))
    thread.start()
    yield made
    made.ended.set()
    made.shutdown()
    thread.join()
    made.server_close()
    elsewhere.cache_clear()


def there() -> dict[str, bytes]:
    """What a user sees of the folder."""
    return {path.name: path.read_bytes() for path in user_folder().glob("[!.]*")}


def partial(name: str = "G.7.piece-2.safetensors") -> Path:
    return user_folder() / f".{name}.partial"


def test_all_pieces_come_and_are_found(server: Server) -> None:
    told: list[int] = []
    path = get_weights(find_tag("G.7"), told.append)
    assert there() == FILES and sum(told) == len(FIRST) + len(SECOND)
    assert path == find_weights("G.7") == released()["G.7"]
    assert [name for name, _ in server.asked] == ["G.7.piece-2.safetensors", "G.7.safetensors"]  # the first names it
    get_weights("G.7")
    assert len(server.asked) == 2 and not list(user_folder().glob(".*.partial"))


def test_a_name_is_the_newest_tag_that_is_known(server: Server) -> None:
    assert find_tag("G") == "G.7"
    with pytest.raises(NeedsModel, match=r"no weights of G.8 are known .*there are: G.7"):
        find_tag("G.8")


def test_what_is_in_the_package_is_not_fetched(server: Server) -> None:
    assert get_weights(find_tag("I")).parent == PACKAGED and not server.asked


def test_a_connection_that_is_cut_off_again_and_again_is_taken_up_where_it_was(server: Server) -> None:
    server.most = 700
    get_weights("G.7")
    assert there() == FILES
    ranges = [wanted for name, wanted in server.asked if name == "G.7.safetensors"]
    assert ranges == [None, "bytes=700-", "bytes=1400-", "bytes=2100-"]


def test_a_server_that_gives_nothing_more_is_left_and_later_taken_up(server: Server) -> None:
    partial().parent.mkdir(parents=True)
    partial().write_bytes(SECOND[:1000])
    server.most = 0
    with pytest.raises(RdcError, match=r"cut off; 0.0 of 0.0 MB are here: give the same command again") as raised:
        get_weights("G.7")
    assert raised.value.exit_code == 1 and not there() and partial().read_bytes() == SECOND[:1000]
    server.most = 1 << 30
    server.asked.clear()
    get_weights("G.7")
    assert there() == FILES and server.asked[0] == ("G.7.piece-2.safetensors", "bytes=1000-")


def test_a_server_that_stalls_is_left(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetching, "TIMEOUT_S", 0.1)
    server.most, server.stalls = 0, True
    with pytest.raises(RdcError, match=r"nothing came for 0.1 s"):
        get_weights("G.7")
    assert not there()


def test_without_ranges_a_transfer_begins_again(server: Server) -> None:
    partial().parent.mkdir(parents=True)
    partial().write_bytes(b"x" * 1000)  # would be wrong if it were gone on with
    server.has_ranges = False
    told: list[int] = []
    get_weights("G.7", told.append)
    assert there() == FILES and sum(told) == len(FIRST) + len(SECOND)


def test_without_ranges_a_connection_that_is_always_cut_off_ends(server: Server) -> None:
    server.has_ranges, server.most = False, 700
    with pytest.raises(RdcError, match="cut off"):
        get_weights("G.7")
    assert not there()


def test_a_range_that_was_not_asked_for_is_not_taken(server: Server) -> None:
    server.most, server.wrong_start = 700, True
    with pytest.raises(RdcError, match="cut off"):
        get_weights("G.7")
    assert not there()


@pytest.mark.parametrize("tells_size", [True, False])
@pytest.mark.parametrize("lie", [SECOND[:-1] + b"!", SECOND + b"more", SECOND[:-1]], ids=["other", "longer", "shorter"])
def test_wrong_bytes_are_not_kept(server: Server, lie: bytes, tells_size: bool) -> None:
    server.files["G.7.piece-2.safetensors"], server.tells_size = lie, tells_size
    if not tells_size and lie.startswith(SECOND):  # what is beyond the end is not read
        get_weights("G.7")
        assert there() == FILES
        return
    with pytest.raises(
        RdcError, match=f"other bytes|bytes, but the weights of that name have {len(SECOND)}|2999|cut off"
    ):
        get_weights("G.7")
    assert not there()
    server.files = dict(FILES)
    server.tells_size = True
    get_weights("G.7")
    assert there() == FILES


def test_a_file_that_was_altered_later_is_fetched_again(server: Server) -> None:
    get_weights("G.7")
    (user_folder() / "G.7.piece-2.safetensors").write_bytes(b"spoilt")
    (user_folder() / "G.7.safetensors").unlink()
    get_weights("G.7")
    assert there() == FILES


@pytest.mark.parametrize(("status", "code"), [(200, 4), (403, 4), (503, 1)])
def test_what_the_server_refuses_is_said(server: Server, status: int, code: int) -> None:
    server.status, server.files = status, {}
    with pytest.raises(
        RdcError, match=f"the server says {404 if status == 200 else status} .*check {ADDRESS}"
    ) as raised:
        get_weights("G.7")
    assert raised.value.exit_code == code and not there()


def test_no_server(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ADDRESS, "http://127.0.0.1:9")
    with pytest.raises(RdcError, match=r"Connection refused.*give the same command again"):
        get_weights("G.7")
    monkeypatch.setenv(ADDRESS, "ftp://127.0.0.1")
    with pytest.raises(UsageError, match="starts with https://"):
        get_weights("G.7")
    monkeypatch.delenv(ADDRESS)
    with pytest.raises(UsageError, match=f"set {ADDRESS} to the address of a folder that has it"):
        get_weights("G.7")


def test_two_at_once_fetch_once(server: Server) -> None:
    threads = [threading.Thread(target=get_weights, args=("G.7",)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert there() == FILES and len(server.asked) == 2


def test_the_command(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "--get", "G", "--get", "I"]) == 0
    out, err = capsys.readouterr()
    assert [line.split()[0] for line in out.splitlines()] == ["G.7", find_weights("I").stem] and err == ""
    assert main(["models", "--get", "G.7", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["path"] == str(user_folder() / "G.7.safetensors")
    assert main(["models", "--get", "Nobody"]) == 4
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize(
    ("platform", "settings", "folder"),
    [
        ("linux", {"HOME": "/home/me"}, "/home/me/.local/share"),
        ("linux", {"HOME": "/home/me", "XDG_DATA_HOME": "/data"}, "/data"),
        ("linux", {"HOME": "/home/me", "XDG_DATA_HOME": "not/absolute"}, "/home/me/.local/share"),
        ("darwin", {"HOME": "/Users/me"}, "/Users/me/Library/Application Support"),
        ("win32", {"LOCALAPPDATA": "/local"}, "/local"),
    ],
)
def test_the_folder_is_where_the_system_has_such(
    platform: str, settings: dict[str, str], folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("XDG_DATA_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("sys.platform", platform)
    assert user_folder() == Path(folder) / "rdcodec" / "weights"


@pytest.mark.skipif(not CHECKOUT.is_dir(), reason="needs a checkout with weights/")
def test_the_table_is_of_all_that_the_package_does_not_have() -> None:
    known = {file.name: file for files in elsewhere().values() for file in files}
    assert known == {path.name: pin(path) for path in CHECKOUT.glob("*.safetensors")}, (
        "run python scripts/weights_table.py"
    )
    assert elsewhere()["G.1"][0] == Pinned(
        "G.1.safetensors", known["G.1.safetensors"].size, known["G.1.safetensors"].sha256
    )
