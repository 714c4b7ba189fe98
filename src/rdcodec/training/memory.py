"""Running out of memory, explained: what was being done, and what to lower."""

import contextlib
from collections.abc import Iterator

from rdcodec.errors import RdcError, is_out_of_memory
from rdcodec.training.recipe import Recipe


@contextlib.contextmanager
def explain_out_of_memory(doing: str, remedy: str) -> Iterator[None]:
    """Where memory of the machine or its GPU runs out inside, an RdcError of one line."""
    try:
        yield
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        raise RdcError(f"out of memory while {doing}: {remedy}") from error


def smaller_steps(recipe: Recipe) -> str:
    """What makes a step need less memory, with the present values."""
    stages = dict.fromkeys(f"batch {stage.batch} of crop {stage.crop}" for stage in recipe.stages)
    return f"give a smaller --micro-batch, or lower batch or crop in the recipe's stages (now {', '.join(stages)})"
