"""Every error that a user can meet, each with the exit code of the command line."""

import errno
import re


class RdcError(Exception):
    """One line: what went wrong, where, and what to do. Exit code 1 (failed)."""

    exit_code = 1


class UsageError(RdcError):
    """The call itself cannot be carried out as it was written."""

    exit_code = 2


class BadInput(RdcError):
    """An input is foreign, truncated, damaged, or outside the limits."""

    exit_code = 3


class NeedsModel(RdcError):
    """A model, its weights or an external tool is missing or altered."""

    exit_code = 4


class CheckFailed(RdcError):
    """The work was done, but a check that was asked for did not hold."""

    exit_code = 5


def is_out_of_memory(error: BaseException) -> bool:
    """Whether the machine or its GPU had no memory left. torch's allocators say so in words alone."""
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    words = "out of memory|allocate memory|not enough memory|bad_alloc|ALLOC_FAILED"
    return isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and bool(re.search(words, str(error))))


NO_TORCH = "this needs torch, which is not installed: pip install 'rdcodec[train]'"
