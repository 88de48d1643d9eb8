"""What fits into memory is known before the first step."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from understudy.model.memory import free_memory_gb, plan_memory
from understudy.recipes import train_recipe


def test_a_batch_that_fits_goes_through_at_once_and_a_larger_picture_is_named() -> None:
    plan = plan_memory(train_recipe("quick"), free_gb=8)
    assert plan.micro_batch == plan.batch_size == 8
    assert 0.3 < plan.needed_gb < 1.5
    assert plan.largest_px > 96
    assert "a batch of 8 fits at once" in str(plan)
    assert not plan.is_tight
    nearly_full = plan_memory(train_recipe("quick"), free_gb=1.3 * plan.needed_gb)
    assert (nearly_full.micro_batch, nearly_full.is_tight) == (8, True)


def test_with_less_memory_the_pieces_get_smaller_and_in_the_end_nothing_fits() -> None:
    portrait = replace(train_recipe("portrait"), batch_size=64)
    plans = [plan_memory(portrait, free_gb=free_gb) for free_gb in (100, 5, 3.6, 1)]
    pieces = [plan.micro_batch for plan in plans]
    assert pieces == sorted(pieces, reverse=True)
    assert pieces[0] == 64
    assert 0 < pieces[1] < 64
    assert pieces[-1] == 0
    assert f"pieces of {pieces[1]} of 64 faces" in str(plans[1])
    assert "does not fit" in str(plans[-1])


def test_each_further_performer_and_each_face_held_costs_memory() -> None:
    quick = train_recipe("quick")
    two, three = (plan_memory(quick, num_performers=number, free_gb=8) for number in (2, 3))
    assert three.face_gb > two.face_gb
    assert plan_memory(quick, num_faces=100_000, free_gb=64).fixed_gb > two.fixed_gb + 5


def test_every_further_term_of_the_loss_costs_memory() -> None:
    quick = train_recipe("quick")
    plain = plan_memory(quick, free_gb=8)
    for term in ("perceptual_weight", "adversarial_weight", "adversarial_swap_weight", "cycle_weight", "equivariance_weight"):
        assert plan_memory(replace(quick, **{term: 0.1}), free_gb=8).face_gb > 1.2 * plain.face_gb, term
    judged = plan_memory(replace(quick, adversarial_weight=0.1), free_gb=8)
    assert judged.fixed_gb > plain.fixed_gb, "the discriminators' weights"


def write_group(folder: Path, names: tuple[str, str], limit: str, used: int, stat: str) -> None:
    folder.mkdir(parents=True)
    for name, text in zip((*names, "memory.stat"), (limit, str(used), stat), strict=True):
        (folder / name).write_text(text)


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU's own memory counts")
def test_what_is_free_is_what_the_containers_limit_leaves(tmp_path: Path) -> None:
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/meminfo").write_text("MemTotal:  32000000 kB\nMemAvailable:   20000000 kB\n")
    assert free_memory_gb(tmp_path) == pytest.approx(20.48)
    (tmp_path / "proc/self/cgroup").write_text("0::/user/job\n")
    version_2 = ("memory.max", "memory.current")
    write_group(tmp_path / "sys/fs/cgroup/user/job", version_2, "max", 3 * 10**9, "inactive_file 0\n")
    assert free_memory_gb(tmp_path) == pytest.approx(20.48)
    for name, text in zip(
        (*version_2, "memory.stat"), ("8000000000", "3000000000", "anon 1\ninactive_file 1000000000"), strict=True
    ):
        (tmp_path / "sys/fs/cgroup/user" / name).write_text(text)
    assert free_memory_gb(tmp_path) == pytest.approx(6.0), "a limit of the group above holds too; files in the cache give way"
    (tmp_path / "proc/self/cgroup").write_text("4:memory:/docker/1a2b\n1:cpu:/\n")
    version_1 = ("memory.limit_in_bytes", "memory.usage_in_bytes")
    write_group(tmp_path / "sys/fs/cgroup/memory", version_1, "5000000000", 2 * 10**9, "total_inactive_file 500000000\n")
    assert free_memory_gb(tmp_path) == pytest.approx(3.5), "a container sees its own group at the mount"
