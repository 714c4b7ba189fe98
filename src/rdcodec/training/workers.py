"""Who carries out the trials of a sweep: processes of this machine, or a Ray cluster."""

import contextlib
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

from rdcodec.cluster import connect
from rdcodec.training.trial import Job, carry_out, is_done

ATTEMPTS = 2  # of a trial, in one sweep command
State = Literal["waiting", "running", "done", "failed"]


class Workers(Protocol):
    """Runs jobs in parallel."""

    room: int  # jobs at a time

    def begin(self, job: Job) -> None:
        """Start a job."""

    def ended(self) -> list[tuple[str, str | None]]:
        """Names of the jobs that ended since the last call, each with what went wrong or None; waits a moment."""

    def stop(self) -> None:
        """Interrupt what runs; each job keeps a checkpoint."""


@dataclass
class Status:
    """How far the sweep is with one trial. problem: of its last attempt."""

    job: Job
    state: State = "waiting"
    attempts: int = 0
    problem: str | None = None


def run_trials(jobs: Sequence[Job], workers: Workers, show: Callable[[Sequence[Status]], None]) -> list[Status]:
    """Carry out every job that is not done, each failing one once more; returns how each ended.

    show gets all of them whenever something may have changed, about once a second.
    """
    statuses = {job.name: Status(job, "done" if is_done(job) else "waiting") for job in jobs}
    waiting = deque(status for status in statuses.values() if status.state == "waiting")
    running = 0
    try:
        while waiting or running:
            while waiting and running < workers.room:
                status = waiting.popleft()
                status.state, status.attempts = "running", status.attempts + 1
                workers.begin(status.job)
                running += 1
            show(list(statuses.values()))
            for name, problem in workers.ended():
                running -= 1
                status = statuses[name]
                status.problem = problem
                status.state = "done" if problem is None else "failed"
                if problem is not None and status.attempts < ATTEMPTS:
                    status.state = "waiting"
                    waiting.append(status)
    except BaseException:
        workers.stop()
        raise
    show(list(statuses.values()))
    return list(statuses.values())


@dataclass
class LocalWorkers:
    """Processes of this machine, one for each job."""

    room: int
    processes: dict[str, tuple["subprocess.Popen[bytes]", Path]] = field(default_factory=dict)

    def begin(self, job: Job) -> None:
        path = job.save()
        log = path.with_suffix(".log")
        with log.open("ab") as file:
            # Apart from the terminal: an interrupt there is for the sweep. A trial ends when its input does, which
            # works on every system, however the sweep ends.
            process = subprocess.Popen(
                [sys.executable, "-m", "rdcodec.training.trial", str(path)],
                stdin=subprocess.PIPE,
                stdout=file,
                stderr=file,
                start_new_session=True,  # POSIX
                creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0),  # Windows
            )
        self.processes[job.name] = process, log

    def ended(self) -> list[tuple[str, str | None]]:
        for process, _ in self.processes.values():
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(1.0)
            break
        gone = {name: pair for name, pair in self.processes.items() if pair[0].poll() is not None}
        for name in gone:
            del self.processes[name]
        return [(name, _problem(process.returncode, log)) for name, (process, log) in gone.items()]

    def stop(self) -> None:
        for process, _ in self.processes.values():
            if process.stdin is not None:
                process.stdin.close()
        for process, _ in self.processes.values():
            process.wait()


def _problem(code: int, log: Path) -> str | None:
    if code == 0:
        return None
    if code < 0:
        return f"its process was killed by {signal.Signals(-code).name}"
    lines = log.read_text(encoding="utf-8", errors="replace").split("\n")
    last = next((line.strip() for line in reversed(lines) if line.strip()), "no message")
    return f"{last} (exit code {code})"


class RayWorkers:
    """A Ray cluster whose machines see the folder of the sweep and the photographs under the same paths.

    A job whose machine or process is lost is begun again by Ray, and goes on from its checkpoint.
    """

    def __init__(self, address: str, threads: int, device: str) -> None:
        """address and errors: as `connect`."""
        self._ray = connect(address)
        needs = {"num_cpus": threads, "num_gpus": int(device == "cuda"), "max_retries": 2}
        self._remote = self._ray.remote(**needs)(carry_out)
        self.room = max(1, int(self._ray.cluster_resources().get("CPU", 1)) // threads)
        self._jobs: dict[Any, str] = {}

    def begin(self, job: Job) -> None:
        self._jobs[self._remote.remote(job)] = job.name

    def ended(self) -> list[tuple[str, str | None]]:
        done, _ = self._ray.wait(list(self._jobs), num_returns=1, timeout=1.0)
        return [(self._jobs.pop(reference), self._outcome(reference)) for reference in done]

    def _outcome(self, reference: Any) -> str | None:
        try:
            self._ray.get(reference)
        except Exception as error:  # Ray's own, or those of the trial wrapped in one of Ray's
            return " ".join(str(getattr(error, "cause", None) or error).split())[:300]
        return None

    def stop(self) -> None:
        for reference in self._jobs:
            self._ray.cancel(reference)
        self._ray.wait(list(self._jobs), num_returns=len(self._jobs), timeout=60)
