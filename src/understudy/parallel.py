"""Rank, world and barrier that work uninitialised, and a map over items: here, in processes, or on a Ray cluster."""

from __future__ import annotations

import importlib
import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import Any, TypeVar, cast

from understudy.types import BadInput

Item = TypeVar("Item")
Result = TypeVar("Result")


def rank() -> int:
    """The number of this process within a distributed run; 0 where there is none."""
    return _distributed("get_rank", 0)


def world() -> int:
    """How many processes share the run; 1 where it is not distributed."""
    return _distributed("get_world_size", 1)


def barrier() -> None:
    """Wait until all processes of the run have come here; returns at once where there is one."""
    _distributed("barrier", None)


def map_items(
    function: Callable[[Item], Result], items: Sequence[Item], *, num_processes: int = 1, ray_address: str | None = None
) -> Iterator[Result]:
    """Yield `function(item)` for each item, in order, as soon as each is there; the first failure is raised.

    function, items: of a kind that can be sent to another process, unless all is done here (num_processes 1 or less).
    ray_address: a Ray cluster that does the work instead ("auto" = the one this machine belongs to).
    """
    if ray_address is not None:
        yield from _map_on_ray(function, items, ray_address)
    elif min(num_processes, len(items)) <= 1:
        yield from map(function, items)
    else:
        # Started anew, not forked: a forked child would hold this process's locks and threads.
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(min(num_processes, len(items)), mp_context=context) as pool:
            try:
                yield from pool.map(function, items)
            finally:
                pool.shutdown(wait=True, cancel_futures=True)


def _distributed(name: str, otherwise: Result) -> Result:
    """Call a function of torch.distributed if a process group stands."""
    from torch import distributed

    if not (distributed.is_available() and distributed.is_initialized()):
        return otherwise
    return cast(Result, getattr(distributed, name)())


def _map_on_ray(function: Callable[[Item], Result], items: Sequence[Item], address: str) -> Iterator[Result]:
    try:
        ray: Any = importlib.import_module("ray")
    except ImportError as error:
        raise BadInput(f"a Ray cluster was asked for ({address}), but ray is not installed; run: pip install ray") from error
    ray.init(address=address, ignore_reinit_error=True)
    remote = ray.remote(function)
    for reference in [remote.remote(item) for item in items]:
        yield cast(Result, ray.get(reference))
