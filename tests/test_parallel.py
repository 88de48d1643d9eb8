"""Rank and world without a process group, and the map over items."""

import os
import sys
from pathlib import Path

import pytest

from understudy import parallel
from understudy.parallel import barrier, map_items, rank, world
from understudy.types import BadInput


def square(number: int) -> int:
    return number * number


def process_id(_: int) -> int:
    return os.getpid()


def refuse_three(number: int) -> int:
    if number == 3:
        raise BadInput("three is not welcome")
    return number


def test_without_a_process_group_there_is_one_process_of_rank_zero():
    barrier()
    assert (rank(), world()) == (0, 1)


def test_a_process_group_is_seen(tmp_path: Path):
    from torch import distributed

    distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/group", rank=0, world_size=1)
    try:
        barrier()
        assert (rank(), world()) == (0, 1)
        assert distributed.is_initialized()
    finally:
        distributed.destroy_process_group()


def test_one_process_maps_lazily_and_in_place():
    seen = []
    results = map_items(lambda item: seen.append(item) or item, [1, 2, 3])
    assert next(results) == 1
    assert seen == [1]


def test_several_processes_keep_the_order_and_are_not_this_one():
    assert list(map_items(square, range(20), num_processes=2)) == [n * n for n in range(20)]
    assert os.getpid() not in set(map_items(process_id, range(4), num_processes=2))


def test_no_items_give_no_results():
    assert list(map_items(square, [], num_processes=4)) == []


@pytest.mark.parametrize("num_processes", [1, 2])
def test_a_failure_comes_back_as_itself(num_processes: int):
    with pytest.raises(BadInput, match="three is not welcome"):
        list(map_items(refuse_three, [1, 2, 3, 4], num_processes=num_processes))


def test_ray_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(BadInput, match="pip install ray"):
        list(map_items(square, [1], ray_address="auto"))


@pytest.mark.parametrize("environment", [{"WORLD_SIZE": "two"}, {"WORLD_SIZE": "2"}, {"WORLD_SIZE": "2", "RANK": "first"}])
def test_a_number_of_processes_that_nobody_started_is_named(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str]
) -> None:
    for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(BadInput, match="start several processes with torchrun, or unset WORLD_SIZE"):
        parallel.join()
