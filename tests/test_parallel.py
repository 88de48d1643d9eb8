"""Rank and world, with a process group and without."""

from pathlib import Path

import pytest

from understudy import parallel
from understudy.parallel import barrier, rank, world
from understudy.types import BadInput


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
