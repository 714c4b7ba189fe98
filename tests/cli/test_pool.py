"""Several tasks at once, in threads of one process."""

import os
import threading
import time
from collections.abc import Iterator

import pytest

from rdcodec.cli import pool
from rdcodec.codec import engine
from rdcodec.errors import BadInput


@pytest.fixture(autouse=True)
def _own_threads() -> Iterator[None]:
    yield
    engine.set_threads(0)


def test_tasks_run_at_once_in_this_process_and_come_in_order() -> None:
    together = threading.Barrier(3, timeout=60)

    def work(number: int) -> tuple[int, int]:
        together.wait()  # for the others: one after the other, they would wait for ever
        if number == 1:
            raise BadInput("the second one")
        return number, os.getpid()

    first, second, third = pool.run_tasks(work, range(3), jobs=3, threads=0)
    assert (first, third) == ((0, os.getpid()), (2, os.getpid()))
    assert isinstance(second, BadInput)


@pytest.mark.parametrize(("jobs", "threads", "share"), [(1, 7, 7), (2, 7, 3), (3, 2, 1)])
def test_tasks_share_the_threads(jobs: int, threads: int, share: int) -> None:
    assert list(pool.run_tasks(lambda _: engine.threads(), range(3), jobs, threads)) == [share] * 3


def test_what_runs_is_ended_with_the_command() -> None:
    """What has not begun does not begin; what has begun tidies up."""
    began, ended = threading.Event(), []

    def work(number: int) -> int:
        if number == 0:
            return number
        began.set()
        try:
            while True:
                time.sleep(0.001)
        finally:
            ended.append(number)

    outcomes = pool.run_tasks(work, range(9), jobs=2, threads=0)
    assert next(outcomes) == 0
    assert began.wait(60)
    outcomes.close()
    assert ended and set(ended) <= {1, 2}
