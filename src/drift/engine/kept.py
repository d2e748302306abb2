"""What a worker keeps from one piece to the next and has to end in good order, such as a server of its own."""

from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from typing import Any, TypeVar

Thing = TypeVar("Thing")

_kept: list[tuple[object, Any, ExitStack]] = []
"""At most one: a worker has room for one."""


def kept(key: object, opened: Callable[[], AbstractContextManager[Thing]]) -> Thing:
    """In a worker: what an earlier piece opened for an equal `key`, else what `opened` gives; another is ended before.

    It is ended with the worker. A worker that is killed cannot do so: what must not outlive it has to see to that.
    """
    if _kept and _kept[0][0] == key:
        return _kept[0][1]
    let_go()
    with ExitStack() as stack:
        thing = stack.enter_context(opened())
        _kept.append((key, thing, stack.pop_all()))
    return thing


def let_go() -> None:
    """End what this process keeps."""
    while _kept:
        _kept.pop()[2].close()
