"""Files on a Ray cluster of this machine: as without one, also when a worker is killed."""

import json
import os
import textwrap
from pathlib import Path

import pytest

from conftest import Rdc, listing, photo

ray = pytest.importorskip("ray", reason="the extra `ray` is not installed")

DIE_ONCE = """
import sys
if any("default_worker" in word for word in sys.orig_argv):
    import os, signal
    from pathlib import Path
    from rdcodec.cli import io

    write_output = io.write_output

    def write_and_die(target, *arguments):
        write_output(target, *arguments)
        with Path({log!r}).open("a") as log:
            log.write(target.name + "\\n")
        if target.name == "b.rdc" and Path({log!r}).read_text().count("b.rdc") == 1:
            os.kill(os.getpid(), signal.SIGKILL)

    io.write_output = write_and_die
"""


def test_a_cluster_that_loses_a_worker(rdc: Rdc, work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed when its file is there and nobody knows it: the file is made again, and no other one."""
    (work / "sites").mkdir()
    log = work / "sites" / "log"
    (work / "sites" / "sitecustomize.py").write_text(textwrap.dedent(DIE_ONCE.format(log=str(log))))
    monkeypatch.setenv("PYTHONPATH", str(work / "sites"), prepend=os.pathsep)
    Path("in").mkdir()
    for seed, name in enumerate(("a.png", "b.png", "d.png", "there.png")):
        photo(seed=seed).save(work / "in" / name)
    Path("in/c.png").write_bytes(b"no picture")
    Path("out").mkdir()
    Path("out/there.rdc").write_text("precious")
    try:
        done = rdc("compress", "in", "-o", "out", "--ray", "local", "--json")
        assert done.code == 2, done.err
        assert done.err.splitlines()[-1].startswith("3 files  ") and done.err.endswith("2 failed\n")
        codes = {record["input"]: record.get("exit_code") for record in map(json.loads, done.out.splitlines())}
        assert codes == {"in/a.png": None, "in/b.png": None, "in/c.png": 3, "in/d.png": None, "in/there.png": 2}
        assert sorted(log.read_text().split()) == ["a.rdc", "b.rdc", "b.rdc", "d.rdc"]
        done = rdc("decompress", "out/a.rdc", "out/b.rdc", "-o", "back", "--ray", "local")
        assert done.code == 0 and listing(work / "back") == ["a.png", "b.png"], done.err
        Path("in/c.png").unlink()
        measured = "eval", "J", "--data", "in", "-q", "20,60"
        done = rdc(*measured, "-o", "there.json", "--ray", "local")
        assert done.code == 0, done.err
        assert rdc(*measured, "-o", "here.json", "--jobs", "2").code == 0
        Path("in/c.png").write_bytes(b"no picture")
        done = rdc("decompress", "out/a.rdc", "-o", "more.png", "--ray", "local", "--threads", "9999")
        assert done.code == 2 and "no machine of the cluster has 9999 cores" in done.message
    finally:
        ray.shutdown()
    there, here = (json.loads(Path(name).read_text())["rows"] for name in ("there.json", "here.json"))
    assert there == here and len(here["values"]) == 8
    assert listing(work / "out") == ["a.rdc", "b.rdc", "d.rdc", "there.rdc"]
    assert Path("out/there.rdc").read_text() == "precious"
    assert rdc("compress", "in", "-o", "here", "--skip-existing").code == 3
    for name in ("a.rdc", "b.rdc", "d.rdc"):
        assert Path("out", name).read_bytes() == Path("here", name).read_bytes()


def test_what_a_cluster_cannot_do(rdc: Rdc, picture: Path) -> None:
    for arguments, words in (
        (["-", "-o", "x.rdc"], "not streams"),
        ([picture, "-o", "-"], "not streams"),
        ([picture, "--jobs", "2"], "--jobs"),
    ):
        done = rdc("compress", *arguments, "--ray", "local")
        assert done.code == 2 and words in done.message
    done = rdc("compress", picture, "--ray", "127.0.0.1:1")
    assert done.code == 1 and "no Ray cluster at 127.0.0.1:1" in done.message
