"""What changes in the course of a run: the learning rate, the warp, and when each term sets in."""

from __future__ import annotations

from dataclasses import replace

import pytest

from understudy.model.schedule import moment, scheduled_learning_rate, scheduled_warp, slow_steps, step_generator
from understudy.recipes import LIMITS
from understudy.settings import TrainRecipe

RECIPE = TrainRecipe(learning_rate=1e-3, warmup_steps=100, decay_fraction=0.4, warp_until=0.8)


def test_the_learning_rate_rises_stays_and_falls_to_a_fiftieth() -> None:
    moments = ((0, 0.0), (49, 0.1), (100, 0.2), (900, 0.6), (950, 0.8), (999, 1.0))
    rates = [scheduled_learning_rate(RECIPE, *when) for when in moments]
    assert rates == pytest.approx([1e-5, 5e-4, 1e-3, 1e-3, 5.2e-4, 2e-5])
    even = replace(RECIPE, warmup_steps=0, decay_fraction=0.0)
    assert {scheduled_learning_rate(even, *when) for when in ((0, 0.0), (999, 1.0))} == {1e-3}


def test_the_learning_rate_is_halved_with_every_time_that_a_run_went_back() -> None:
    rates = [moment(RECIPE, 200, 0.3, attempt).learning_rate for attempt in range(3)]
    assert rates == pytest.approx([1e-3, 5e-4, 2.5e-4])


def test_what_moves_slowly_makes_as_many_steps_as_the_run_and_the_first_ones_singly() -> None:
    made = [slow_steps(step) for step in range(1000)]
    assert sum(made) == 1000
    assert made[:60] == [1] * 60
    assert sum(each > 0 for each in made[500:]) == 125


def test_the_warp_falls_evenly_to_nothing_or_stays_where_the_recipe_says_so() -> None:
    assert [scheduled_warp(RECIPE, progress) for progress in (0.0, 0.4, 0.8, 1.0)] == pytest.approx([1.0, 0.5, 0.0, 0.0])
    assert scheduled_warp(replace(RECIPE, warp_until=0.0), 1.0) == 1.0


def test_the_largest_seed_still_has_its_own_draws_at_every_attempt() -> None:
    largest = int(LIMITS["seed"][1])
    seeds = {
        step_generator(seed, step, 1, attempt).initial_seed()
        for seed in (largest - 1, largest)
        for step in (0, 9**6)
        for attempt in (0, 5)
    }
    assert len(seeds) == 8
