"""Several files at once: worker processes, their threads, failures on the way, interrupts."""

import contextlib
import os
import signal
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from multiprocessing import active_children, get_context
from typing import TypeVar

import typer

from rdcodec.cli import io
from rdcodec.system import core_count, unfinished

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

    With more than one job, tasks run in processes of their own, which share the threads; `work` and its
    arguments must pickle.
    """
    jobs = min(jobs or core_count(), len(tasks))
    if jobs <= 1:
        set_threads(threads)
        for task in tasks:
            yield _outcome(lambda task=task: work(task))  # type: ignore[misc]
        return
    share = max(1, (threads or core_count()) // jobs)
    executor = ProcessPoolExecutor(jobs, get_context("spawn"), _start_worker, (share,))
    try:
        with _interrupts_ignored():  # workers inherit that: an interrupt is the parent's to handle
            futures: list[Future[Result]] = [executor.submit(work, task) for task in tasks]
        for future in futures:
            yield _outcome(future.result)
    except BaseException:
        for process in active_children():
            process.terminate()
        raise
    finally:
        executor.shutdown(cancel_futures=True)


def _start_worker(threads: int) -> None:
    signal.signal(signal.SIGTERM, _stop_worker)
    warnings.simplefilter("ignore")
    set_threads(threads)


def _stop_worker(*_: object) -> None:
    # An exception would end one task only: the pool would give this worker the next.
    for path in unfinished:
        path.unlink(missing_ok=True)
    os._exit(1)


@contextlib.contextmanager
def _interrupts_ignored() -> Iterator[None]:
    handler = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)


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
