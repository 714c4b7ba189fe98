"""Interrupts that wait until a state is whole."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NoReturn


@contextmanager
def noted_interrupts() -> Iterator[Callable[[], int]]:
    """Inside, SIGINT and SIGTERM are only noted; yields what says which one came, or 0.

    A second SIGINT raises KeyboardInterrupt at once. A signal that is ignored stays so. Signals reach the main thread
    alone: in any other nothing is noted.
    """
    came: list[int] = []

    def note(number: int, frame: object) -> None:
        if number == signal.SIGINT and number in came:
            raise KeyboardInterrupt
        came.append(number)

    in_main = threading.current_thread() is threading.main_thread()
    numbers = [signal.SIGINT, signal.SIGTERM] if in_main else []
    before = {number: signal.getsignal(number) for number in numbers}
    handled = {number: handler for number, handler in before.items() if handler not in (signal.SIG_IGN, None)}
    for number in handled:
        signal.signal(number, note)
    try:
        yield lambda: came[0] if came else 0
    finally:
        for number, handler in handled.items():
            signal.signal(number, handler)


def interrupt_by(number: int) -> NoReturn:
    """KeyboardInterrupt, after a signal by way of whoever handles it: what ends this process may depend on it."""
    if number and callable(signal.getsignal(number)):
        signal.raise_signal(number)
    raise KeyboardInterrupt
