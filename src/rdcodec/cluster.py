"""The way to a Ray cluster, whose machines see the same folders under the same paths."""

import signal
import socket
import threading
from importlib import import_module
from typing import Any

from rdcodec.errors import NeedsModel, RdcError


def connect(address: str) -> Any:
    """The module `ray`, connected to a cluster ("auto", "ray://host:10001"), or to one in this process ("local").

    NeedsModel if Ray is not installed; RdcError if there is no cluster. Signals are handled as before.
    """
    try:
        ray: Any = import_module("ray")
    except ImportError:
        raise NeedsModel("Ray is missing: pip install 'rdcodec[ray]'") from None
    in_main = threading.current_thread() is threading.main_thread()
    handler = signal.getsignal(signal.SIGTERM)
    try:
        _knock(address)
        ray.init(address=address, ignore_reinit_error=True, log_to_driver=False, logging_level="ERROR")
    except (OSError, ValueError, RuntimeError) as error:
        raise RdcError(f"no Ray cluster at {address} ({error}): start one with `ray start --head`") from error
    finally:
        if in_main and handler is not None:
            signal.signal(signal.SIGTERM, handler)  # Ray puts its own in its place
    # Ray tells of lost workers on stdout, where results go. It has no public switch; its own debugger uses this one.
    ray._private.worker._worker_logs_enabled = False
    return ray


def _knock(address: str) -> None:
    """OSError where nobody listens at HOST:PORT: Ray itself tries for a minute, then ends the process."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if host and port.isdigit():
        socket.create_connection((host, int(port)), timeout=5).close()
