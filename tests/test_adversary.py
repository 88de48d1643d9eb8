"""The discriminators learn, teach, stay quiet where told to, and survive a checkpoint."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from understudy.model.adversary import GAN_LOSSES, Discriminators, PatchDiscriminator, cut_out, gradient_penalty
from understudy.model.augment import Batch
from understudy.model.schedule import moment
from understudy.model.swaps import Drawing, Swap, cycle_loss, equivariance_loss, harmony_loss, partner
from understudy.settings import TrainRecipe
from understudy.types import BadInput

TINY = TrainRecipe(resolution_px=32, width=0.125, warmup_steps=0, adversarial_weight=1.0, learning_rate=3e-4)
GANS = sorted(GAN_LOSSES)


def batch_of(pictures: Tensor) -> Batch:
    face = torch.ones_like(pictures[:, :1])
    return Batch(pictures, pictures, face, face)


def striped(num: int, random: torch.Generator) -> Tensor:
    """Real faces: pictures with sharp stripes; what is drawn has none."""
    pictures = torch.rand(num, 3, 1, 1, generator=random).expand(-1, -1, 32, 32).clone()
    pictures[:, :, ::2] *= 0.5
    return pictures


def opaque(pictures: Tensor) -> Tensor:
    return torch.cat([pictures, torch.ones_like(pictures[:, :1])], dim=1)


@pytest.mark.parametrize("gan_loss", GANS)
def test_every_loss_asks_the_network_for_higher_verdicts_and_the_discriminator_for_lower_ones(gan_loss: str) -> None:
    real, drawn = torch.full((2, 1, 4, 4), 0.2), torch.full((2, 1, 4, 4), 0.3, requires_grad=True)
    for_network, for_discriminator = GAN_LOSSES[gan_loss](real, drawn)
    assert torch.autograd.grad(for_network, drawn, retain_graph=True)[0].max() < 0
    assert torch.autograd.grad(for_discriminator, drawn)[0].min() > 0


def test_the_losses_have_the_values_of_their_papers() -> None:
    real, drawn = torch.tensor([0.5]), torch.tensor([-2.0])
    values = {name: [each.item() for each in loss(real, drawn)] for name, loss in GAN_LOSSES.items()}
    assert values["non-saturating"] == pytest.approx([math.log1p(math.e**2), math.log1p(math.e**-0.5) + math.log1p(math.e**-2)])
    assert values["hinge"] == pytest.approx([2.0, 0.5])
    assert values["least-squares"] == pytest.approx([4.5, 0.125 + 2.0])
    assert values["relativistic"] == pytest.approx([math.log1p(math.e**2.5), math.log1p(math.e**-2.5)])


@pytest.mark.parametrize("gan_loss", GANS)
def test_a_discriminator_learns_to_tell_drawn_from_real_and_teaches_the_difference(gan_loss: str) -> None:
    recipe = replace(TINY, gan_loss=gan_loss, gradient_penalty=0.01, learning_rate=1e-3)
    opponent, random = Discriminators(recipe, ["abel"]), torch.Generator().manual_seed(0)
    for step in range(40):
        real = striped(8, random)
        blurred = opaque(real.mean((2, 3), keepdim=True).expand_as(real))
        figures = opponent.step({"abel": (Drawing(batch_of(real), blurred),)}, moment(recipe, step, 0.0))
    assert figures["real"] > figures["drawn"] + 0.4
    # What it teaches: a step along its gradient makes the drawing look more real to it.
    real = striped(8, random)
    drawn = opaque(real.mean((2, 3), keepdim=True).expand_as(real)).requires_grad_()
    before = opponent.loss("abel", drawn, batch_of(real), moment(recipe, 40, 0.0))
    (gradient,) = torch.autograd.grad(before, drawn)
    after = opponent.loss("abel", drawn - 0.02 * gradient.sign(), batch_of(real), moment(recipe, 40, 0.0))
    assert after < before


def test_an_empty_mask_is_no_way_out() -> None:
    """Cut out by an empty mask a face is plain grey: nothing of the real picture is left to pass for a drawing."""
    real = torch.rand(1, 3, 8, 8)
    assert torch.equal(
        cut_out(torch.cat([real, torch.zeros(1, 1, 8, 8)], 1), torch.ones(1, 1, 8, 8)), torch.full_like(real, 0.5)
    )
    half = cut_out(torch.cat([real, torch.full((1, 1, 8, 8), 0.5)], 1), torch.ones(1, 1, 8, 8))
    torch.testing.assert_close(half, 0.5 * real + 0.25)


def test_the_gradient_penalty_is_the_squared_slope_of_the_verdict() -> None:
    pictures = torch.rand(3, 1, 4, 4, requires_grad=True)
    verdicts = 2 * pictures  # the mean verdict of a picture has the slope 2/16 at each of 16 pixels
    assert gradient_penalty(verdicts, pictures).item() == pytest.approx(16 * (2 / 16) ** 2)


@pytest.mark.parametrize("resolution_px", [32, 64, 96, 128, 256, 512])
def test_a_discriminator_judges_patches_at_any_resolution(resolution_px: int) -> None:
    with torch.inference_mode():
        verdicts = PatchDiscriminator(resolution_px, 0.125)(torch.rand(1, 3, resolution_px, resolution_px))
    assert verdicts.shape[:2] == (1, 1)
    assert 6 <= verdicts.shape[-1] < 12


def test_before_its_time_it_neither_teaches_nor_learns() -> None:
    recipe = replace(TINY, adversarial_from=0.5, adversarial_swap_weight=1.0)
    opponent, pictures = Discriminators(recipe, ["abel"]), torch.rand(2, 3, 32, 32)
    before = {name: each.clone() for name, each in opponent.tensors().items()}
    early, batch = moment(recipe, 0, 0.4), batch_of(pictures)
    assert opponent.loss("abel", opaque(pictures), batch, early) == 0
    assert opponent.swap_loss(Swap("abel", opaque(pictures), batch, batch), early) == 0
    assert opponent.step({"abel": (Drawing(batch, opaque(pictures)),)}, early) == {}
    assert all(torch.equal(each, before[name]) for name, each in opponent.tensors().items())
    assert opponent.loss("abel", opaque(pictures), batch, moment(recipe, 0, 0.5)) > 0


def test_it_goes_on_after_a_checkpoint_bit_for_bit() -> None:
    random = torch.Generator().manual_seed(1)
    drawings = [
        {name: (Drawing(batch_of(striped(2, random)), torch.rand(2, 4, 32, 32, generator=random)),) for name in ("abel", "bea")}
        for _ in range(4)
    ]
    unbroken, stopped = Discriminators(TINY, ["abel", "bea"]), Discriminators(TINY, ["abel", "bea"])
    for step, each in enumerate(drawings):
        unbroken.step(each, moment(TINY, step, 0.0))
        if step < 2:
            stopped.step(each, moment(TINY, step, 0.0))
    resumed = Discriminators(replace(TINY, seed=7), ["abel", "bea"])
    resumed.load({name: each.clone() for name, each in stopped.tensors().items()})
    for step in (2, 3):
        resumed.step(drawings[step], moment(TINY, step, 0.0))
    assert unbroken.tensors().keys() == resumed.tensors().keys()
    assert all(torch.equal(each, resumed.tensors()[name]) for name, each in unbroken.tensors().items())


@pytest.mark.parametrize("gan_loss", GANS)
def test_a_step_that_does_not_fit_into_memory_is_done_in_pieces_and_teaches_the_same(gan_loss: str) -> None:
    recipe, random = replace(TINY, gan_loss=gan_loss, gradient_penalty=0.1), torch.Generator().manual_seed(4)
    batch, drawn = batch_of(striped(TINY.batch_size, random)), torch.rand(TINY.batch_size, 4, 32, 32, generator=random)
    short, plenty = Discriminators(recipe, ["abel"]), Discriminators(recipe, ["abel"])
    judge = short.networks["abel"].forward

    def judge_at_most_three(pictures: Tensor) -> Tensor:
        if len(pictures) > 3:
            raise torch.OutOfMemoryError("no more than three faces at once")
        return judge(pictures)

    short.networks["abel"].forward = judge_at_most_three
    losses = [each.step({"abel": (Drawing(batch, drawn.clone()),)}, moment(recipe, 0, 0.0))["loss"] for each in (short, plenty)]
    assert short.micro_batch == 2
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)
    for name, weight in plenty.networks.state_dict().items():
        torch.testing.assert_close(short.networks.state_dict()[name], weight, rtol=0, atol=1e-4)
    short.micro_batch, short.networks["abel"].forward = 1, lambda _: judge_at_most_three(torch.empty(4))
    with pytest.raises(BadInput, match="not even one face at a time fits into memory"):
        short.step({"abel": (Drawing(batch, drawn),)}, moment(recipe, 1, 0.0))


def test_begun_anew_it_has_learned_nothing() -> None:
    opponent = Discriminators(TINY, ["abel"])
    before = {name: each.clone() for name, each in opponent.tensors().items()}
    opponent.step({"abel": (Drawing(batch_of(torch.rand(2, 3, 32, 32)), torch.rand(2, 4, 32, 32)),)}, moment(TINY, 0, 0.0))
    opponent.begin()
    assert opponent.tensors().keys() == before.keys()
    assert all(torch.equal(each, before[name]) for name, each in opponent.tensors().items())


def test_a_checkpoint_of_another_width_is_refused_in_words() -> None:
    with pytest.raises(BadInput, match="discriminators do not fit"):
        Discriminators(TINY, ["abel"]).load(Discriminators(replace(TINY, width=0.5), ["abel"]).tensors())


def test_a_face_that_is_no_number_changes_nothing() -> None:
    opponent, batch = Discriminators(TINY, ["abel"]), batch_of(torch.rand(2, 3, 32, 32))
    before = {name: each.clone() for name, each in opponent.tensors().items()}
    opponent.step({"abel": (Drawing(batch, torch.full((2, 4, 32, 32), float("nan"))),)}, moment(TINY, 0, 0.0))
    assert all(torch.equal(each, before[name]) for name, each in opponent.tensors().items())


# ---- what is asked of swaps -----------------------------------------------------------------------------------------------


def test_a_discriminator_steps_so_many_times_as_far_as_the_network_does() -> None:
    moved = []
    for speed in (1.0, 4.0):
        recipe, random = replace(TINY, discriminator_speed=speed), torch.Generator().manual_seed(0)
        opponent = Discriminators(recipe, ["abel"])
        before = opponent.networks["abel"].stem.weight.detach().clone()
        real = batch_of(striped(4, random))
        opponent.step({"abel": (Drawing(real, opaque(torch.rand(4, 3, 32, 32, generator=random))),)}, moment(recipe, 0, 0.5))
        moved.append((opponent.networks["abel"].stem.weight.detach() - before).abs().max())
    assert float(moved[1] / moved[0]) == pytest.approx(4, rel=0.01)


def test_harmony_counts_what_the_composite_changes_of_the_plate() -> None:
    plate = batch_of(torch.full((1, 3, 4, 4), 0.25))
    drawn = torch.full((1, 3, 4, 4), 0.75)
    half = torch.cat([drawn, torch.full((1, 1, 4, 4), 0.5)], 1)
    assert harmony_loss(Swap("bea", opaque(drawn), plate, plate)).item() == pytest.approx(0.5)
    assert harmony_loss(Swap("bea", half, plate, plate)).item() == pytest.approx(0.25)
    assert harmony_loss(Swap("bea", drawn, plate, plate)).item() == pytest.approx(0.5)


def test_a_cycle_that_leads_back_costs_nothing() -> None:
    plate = batch_of(torch.rand(1, 3, 4, 4))
    swap = Swap("bea", opaque(1 - plate.target), plate, plate)
    assert cycle_loss(swap, lambda pictures: 1 - pictures).item() == pytest.approx(0, abs=1e-6)
    assert cycle_loss(swap, lambda pictures: pictures).item() > 0.1


def test_a_swap_that_moves_with_its_plate_costs_nothing_and_one_that_stays_costs_something() -> None:
    smooth = torch.nn.functional.interpolate(torch.rand(2, 3, 4, 4), size=(32, 32), mode="bilinear")
    plate = batch_of(smooth)
    swap = Swap("bea", opaque(1 - smooth), plate, plate)
    zoom = torch.tensor([[[1.1, 0.0, 0.05], [0.0, 1.1, 0.0]]])
    assert equivariance_loss(swap, zoom, lambda pictures: opaque(1 - pictures)).item() == pytest.approx(0, abs=1e-5)
    assert equivariance_loss(swap, zoom, lambda _: swap.drawn).item() > 0.01


def test_everybody_is_drawn_as_each_of_the_others_in_turn() -> None:
    assert [partner("bea", ["abel", "bea", "cleo"], step) for step in range(4)] == ["abel", "cleo", "abel", "cleo"]
    assert partner("abel", ["abel", "bea"], 5) == "bea"
