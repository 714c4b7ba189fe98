"""Several files at once: threads, failures on the way, interrupts."""

import ctypes
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import typer

from rdcodec.cli import io
from rdcodec.system import core_count

Task = TypeVar("Task")
Result = TypeVar("Result")


def set_threads(threads: int) -> None:
    """Let codecs use `threads` threads in this process; 0 leaves the default, every core."""
    from rdcodec.codec import engine

    engine.set_threads(threads)


def run_tasks(
    work: Callable[[Task], Result], tasks: Sequence[Task], jobs: int, threads: int
) -> Iterator[Result | Exception]:
    """Results in order of the tasks, an error in the place of a result that failed.

    With more than one job, so many tasks run at once and share the threads: networks and picture files are computed
    without Python's lock.
    """
    jobs = min(jobs or core_count(), len(tasks))
    if jobs <= 1:
        set_threads(threads)
        for task in tasks:
            yield _outcome(lambda task=task: work(task))  # type: ignore[misc]
        return
    set_threads(max(1, (threads or core_count()) // jobs))
    at_work: set[int] = set()

    def run(task: Task) -> Result:
        at_work.add(threading.get_ident())
        try:
            return work(task)
        finally:
            at_work.discard(threading.get_ident())

    executor = ThreadPoolExecutor(jobs)
    try:
        for future in [executor.submit(run, task) for task in tasks]:
            yield _outcome(future.result)
    except BaseException:
        executor.shutdown(wait=False, cancel_futures=True)
        _interrupt(at_work)
        raise
    finally:
        executor.shutdown()


def _interrupt(threads: Iterable[int]) -> None:
    """Let threads end as an interrupt ends the main one: at their next step in Python, tidily."""
    for thread in tuple(threads):
        ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), ctypes.py_object(KeyboardInterrupt))


def finish(
    outcomes: Iterable[Result | Exception],
    names: Sequence[str],
    show: Callable[[Result], None],
    as_json: bool = False,
) -> None:
    """Show each result as it comes; report failures and go on, then leave with the first one's code."""
    first_code = 0
    for name, outcome in zip(names, outcomes, strict=True):
        if not isinstance(outcome, Exception):
            show(outcome)
            continue
        code = io.report(outcome)
        first_code = first_code or code
        if as_json:
            io.json_line("error", {"input": name, "message": io.explain(outcome)[0], "exit_code": code})
    if first_code:
        raise typer.Exit(first_code)


def _outcome(call: Callable[[], Result]) -> Result | Exception:
    try:
        return call()
    except Exception as error:
        return error
