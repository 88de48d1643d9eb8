"""What fits into memory is known before the first step."""

from __future__ import annotations

from dataclasses import replace

from understudy.model.memory import plan_memory
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
