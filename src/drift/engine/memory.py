"""What a process does about its memory: look for garbage less often, and give back what it no longer needs."""

import ctypes
import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

_ALLOCATIONS = 50_000  # Python's own number is 700


@contextmanager
def rare_collections() -> Iterator[None]:
    """Let Python look for unreachable cycles only after 50,000 new objects, as a context or as a decorator.

    A data stage makes millions of records, which hold no cycles, so nearly every search is in vain.
    """
    before = gc.get_threshold()
    gc.set_threshold(max(before[0], _ALLOCATIONS) if before[0] else 0, *before[1:])  # 0: it is switched off
    try:
        yield
    finally:
        gc.set_threshold(*before)


def give_back_memory() -> None:
    """Free what Arrow and the C library keep of the last piece of work: pieces of other kinds could not use it all.

    A process with a model keeps it: its pieces are all alike, and the next one would have to fetch it again.
    """
    if "torch" in sys.modules:
        return
    if "pyarrow" in sys.modules:
        sys.modules["pyarrow"].default_memory_pool().release_unused()
    with suppress(OSError, AttributeError):  # only glibc has it
        ctypes.CDLL(None).malloc_trim(0)
