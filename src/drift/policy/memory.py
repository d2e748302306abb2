"""Where the memory runs out, the error says what to set."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from drift.errors import DriftError


@contextmanager
def memory_for(what: str, of: str, remedy: str) -> Iterator[None]:
    """Raises DriftError if there is not enough memory for what is computed inside: "WHAT: out of memory in OF; REMEDY".

    Other errors pass.
    """
    try:
        yield
    except RuntimeError as error:
        if not isinstance(error, torch.OutOfMemoryError) and "allocate memory" not in str(error):
            raise
        raise DriftError(f"{what}: out of memory in {of}; {remedy}.") from None
