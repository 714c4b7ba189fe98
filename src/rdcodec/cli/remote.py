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
    ray, options, _ = _cluster(address, threads, on_gpu)
    remote = ray.remote(**options)(carry_out)
    references = [remote.remote(work, task, Path.cwd(), threads) for task in tasks]
    try:
        for reference in references:
            yield _outcome(ray, reference)
    except BaseException:
        for reference in references:
            ray.cancel(reference)
        raise


def runner(address: str, threads: int, on_gpu: bool) -> tuple[Callable[..., Any], int]:
    """What calls a function there with a codec and further arguments, and how many calls the cluster has room for.

    The codec is sent once. Threads may share it. Errors as `run_tasks`; those of the call are raised.
    """
    ray, options, room = _cluster(address, threads, on_gpu)
    remote = ray.remote(**options)(_call)
    sent: dict[int, Any] = {}

    def run(work: Callable[..., Any], codec: Any, *arguments: Any, **more: Any) -> Any:
        if id(codec) not in sent:
            sent[id(codec)] = ray.put(codec)
        outcome = _outcome(ray, remote.remote(Path.cwd(), threads, work, sent[id(codec)], *arguments, **more))
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    return run, room


def _cluster(address: str, threads: int, on_gpu: bool) -> tuple[Any, dict[str, int], int]:
    """The module `ray`, what each task needs, and how many fit; UsageError if none does."""
    ray = connect(address)
    machines = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    fits = [machine.get("CPU", 0) // threads for machine in machines if machine.get("GPU", 0) >= on_gpu]
    if not sum(fits):
        card = " and a GPU" if on_gpu else ""
        raise UsageError(f"no machine of the cluster has {threads} cores{card}: give other --threads or --device")
    return ray, {"num_cpus": threads, "num_gpus": int(on_gpu), "max_retries": RETRIES}, int(sum(fits))


def _call(folder: Path, threads: int, work: Callable[..., Any], *arguments: Any, **more: Any) -> Any:
    return carry_out(lambda _: work(*arguments, **more), None, folder, threads)


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
