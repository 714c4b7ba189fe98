"""Several files on a Ray cluster, whose machines see the same folders under the same paths."""

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

from rdcodec.cli import io, pool
from rdcodec.cluster import connect
from rdcodec.errors import RdcError, UsageError

Task = TypeVar("Task")
Result = TypeVar("Result")

RETRIES = 2  # of a file whose machine or process is lost


def run_tasks(
    work: Callable[[Task], Result], tasks: Sequence[Task], address: str, threads: int, on_gpu: bool
) -> Iterator[Result | Exception]:
    """Results in order of the tasks, an error in the place of a result that failed; `threads` cores for each.

    What a lost machine or process had at work is begun again elsewhere, so work has to bear being done twice; what it
    had finished is not. `work` and its arguments must pickle. Errors as `connect`; UsageError if no machine has what a
    task needs.
    """
    ray = connect(address)
    machines = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    if not any(machine.get("CPU", 0) >= threads and machine.get("GPU", 0) >= on_gpu for machine in machines):
        card = " and a GPU" if on_gpu else ""
        raise UsageError(f"no machine of the cluster has {threads} cores{card}: give other --threads or --device")
    remote = ray.remote(num_cpus=threads, num_gpus=int(on_gpu), max_retries=RETRIES)(carry_out)
    references = [remote.remote(work, task, Path.cwd(), threads) for task in tasks]
    try:
        for reference in references:
            yield _outcome(ray, reference)
    except BaseException:
        for reference in references:
            ray.cancel(reference)
        raise


def carry_out(work: Callable[[Task], Result], task: Task, folder: Path, threads: int) -> Result | Exception:
    """One task, in a process of the cluster; errors are returned, in a form that pickles."""
    try:
        os.chdir(folder)
        pool.set_threads(threads)
        return work(task)
    except (RdcError, OSError) as error:
        return error
    except Exception as error:
        return RdcError(io.explain(error)[0])


def _outcome(ray: Any, reference: Any) -> Any:
    try:
        return ray.get(reference)
    except Exception as error:  # Ray's own: the process was lost once too often
        reason = str(error).splitlines()[0]
        return RdcError(f"lost on the cluster, {RETRIES + 1} times ({reason}): run it again")
