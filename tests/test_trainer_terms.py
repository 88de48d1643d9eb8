"""The trainer's step with every variant of the network and every further term of the loss."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from understudy.model.adversary import Discriminators
from understudy.model.colour import UNCHANGED
from understudy.model.trainer import Trainer
from understudy.settings import TrainRecipe
from understudy.types import BadInput

TINY = TrainRecipe(resolution_px=32, width=0.125, code_size=8, batch_size=2, warmup_steps=2)
PERFORMERS = ("abel", "bea", "cleo")


def crops() -> dict[str, torch.Tensor]:
    """A dozen noisy discs of a colour of its own for each of three performers: (12, 5, 48, 48) uint8."""
    random = torch.Generator().manual_seed(0)
    y, x = torch.meshgrid(torch.linspace(-1, 1, 48), torch.linspace(-1, 1, 48), indexing="ij")
    disc = (x**2 + y**2 < 0.5)[None].float()
    drawn = {}
    for name, colour in zip(PERFORMERS, torch.tensor([[200.0, 90, 60], [60, 160, 90], [70, 80, 210]]), strict=True):
        noise = torch.randn(12, 3, 48, 48, generator=random) * 20
        pictures = (disc * colour[:, None, None] + noise).clamp(0, 255)
        masks = (disc * 255).expand(12, 1, -1, -1)
        drawn[name] = torch.cat([pictures, masks, masks * (y < 0)], dim=1).round().to(torch.uint8)
    return drawn


def trainer(recipe: TrainRecipe, performers: tuple[str, ...] = PERFORMERS) -> Trainer:
    faces = {name: each for name, each in crops().items() if name in performers}
    return Trainer(faces, dict.fromkeys(faces, UNCHANGED), recipe, margin=1.25)


@pytest.mark.parametrize("sharing", ["separate", "identity-code", "two-inters"])
@pytest.mark.parametrize("alternate", [False, True])
def test_every_variant_learns_three_performers(sharing: str, alternate: bool) -> None:
    training = trainer(replace(TINY, sharing=sharing, alternate_performers=alternate, learning_rate=5e-3))
    losses = [sum(training.step(0.1).losses.values()) for _ in range(20)]
    assert losses[-1] < 0.8 * losses[0]


# ---- further terms --------------------------------------------------------------------------------------------------------

ALL_TERMS = {
    "perceptual_weight": 0.1,
    "perceptual_from": 0.0,
    "adversarial_weight": 0.1,
    "adversarial_swap_weight": 0.1,
    "harmony_weight": 0.03,
    "cycle_weight": 0.5,
    "equivariance_weight": 0.5,
}


def features(pictures: torch.Tensor) -> list[torch.Tensor]:
    return [torch.nn.functional.avg_pool2d(pictures, 2)]


def with_terms(recipe: TrainRecipe) -> Trainer:
    faces = crops()
    adversary = Discriminators(recipe, PERFORMERS)
    return Trainer(faces, dict.fromkeys(faces, UNCHANGED), recipe, 1.25, adversary, features=features)


@pytest.mark.parametrize("sharing", ["separate", "identity-code", "two-inters"])
def test_all_terms_together_train_every_variant(sharing: str) -> None:
    training = with_terms(replace(TINY, sharing=sharing, learning_rate=1e-3, **ALL_TERMS))
    before = {name: each.clone() for name, each in training.network.state_dict().items()}
    judges = {name: each.clone() for name, each in training.adversary.tensors().items()}
    for _ in range(4):
        step = training.step(0.1)
        assert step.is_applied
    assert set(step.adversary) == {"loss", "real", "drawn"}
    assert not any(torch.equal(each, before[name]) for name, each in training.network.state_dict().items())
    assert not any(torch.equal(training.adversary.tensors()[name], each) for name, each in judges.items())


@pytest.mark.parametrize(
    "term",
    [
        "perceptual_weight",
        "adversarial_weight",
        "adversarial_swap_weight",
        "harmony_weight",
        "cycle_weight",
        "equivariance_weight",
    ],
)
def test_each_term_changes_what_is_learned(term: str) -> None:
    alone = {"perceptual_from": 0.0, term: 0.5}
    plain, changed = trainer(TINY), with_terms(replace(TINY, **alone))
    plain.step(0.1)
    changed.step(0.1)
    name = "decoders.bea.to_picture.weight"
    assert not torch.equal(plain.network.state_dict()[name], changed.network.state_dict()[name])


def test_terms_without_weight_are_never_worked_out_and_change_no_bit() -> None:
    def untouchable(*_: object) -> list[torch.Tensor]:
        raise AssertionError("a term without weight was worked out")

    plain = trainer(TINY)
    faces = crops()
    silent = Trainer(faces, dict.fromkeys(faces, UNCHANGED), TINY, 1.25, None, features=untouchable)
    silent._decode = _counted(silent._decode, calls := [])
    for _ in range(3):
        plain.step(0.3)
        silent.step(0.3)
    assert all(torch.equal(each, silent.network.state_dict()[name]) for name, each in plain.network.state_dict().items())
    assert calls == list(PERFORMERS) * 3, "nobody is drawn as somebody else"
    assert set(silent.tensors()) == {"weights", "optimizer", "ema"}, "no discriminator is kept"


def _counted(function, calls: list[str]):
    def counted(codes: torch.Tensor, performer: str) -> torch.Tensor:
        calls.append(performer)
        return function(codes, performer)

    return counted


def test_late_terms_are_not_worked_out_before_their_time() -> None:
    late = replace(TINY, adversarial_weight=0.1, adversarial_swap_weight=0.1, adversarial_from=0.5)
    training, plain = with_terms(late), trainer(TINY)
    training._decode = _counted(training._decode, calls := [])
    assert training.step(0.49).adversary == {}
    plain.step(0.49)
    assert calls == list(PERFORMERS)
    assert all(torch.equal(each, plain.network.state_dict()[name]) for name, each in training.network.state_dict().items())
    assert training.step(0.5).adversary["loss"] > 0


def test_terms_that_lack_what_they_need_are_refused_in_words() -> None:
    with pytest.raises(BadInput, match="perceptual_weight needs"):
        trainer(replace(TINY, perceptual_weight=0.1))
    with pytest.raises(BadInput, match="alternate_performers=false"):
        trainer(replace(TINY, cycle_weight=0.1, alternate_performers=True))


def test_a_run_with_all_terms_goes_on_bit_for_bit() -> None:
    recipe = replace(TINY, **ALL_TERMS)
    unbroken, stopped = with_terms(recipe), with_terms(recipe)
    for step in range(4):
        unbroken.step(step / 4)
        if step < 2:
            stopped.step(step / 4)
    resumed = with_terms(replace(recipe, seed=recipe.seed))
    resumed.load({file: {n: t.clone() for n, t in each.items()} for file, each in stopped.tensors().items()}, 2)
    for step in (2, 3):
        resumed.step(step / 4)
    for file, tensors in unbroken.tensors().items():
        assert all(torch.equal(each, resumed.tensors()[file][name]) for name, each in tensors.items()), file
