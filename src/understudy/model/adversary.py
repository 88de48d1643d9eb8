"""What opposes the network: a discriminator per performer learns to tell real faces from drawn ones, and so teaches drawing.

Shapes: B batch, C channels, H = W = the recipe's resolution. Pictures are RGB in 0..1.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional

from understudy import parallel
from understudy.model.augment import Batch
from understudy.model.layers import SmoothDownscale, scaled
from understudy.model.pieces import within_memory
from understudy.model.schedule import Moment
from understudy.model.swaps import Drawing, Swap
from understudy.settings import TrainRecipe
from understudy.types import BadInput

GanLoss = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
"""From the verdicts on real and on drawn faces (higher is more real): the loss of the network and its discriminator's."""


def non_saturating(real: Tensor, drawn: Tensor) -> tuple[Tensor, Tensor]:
    """Goodfellow et al. 2014, "Generative adversarial networks", section 3."""
    softplus = functional.softplus
    return softplus(-drawn).mean(), softplus(-real).mean() + softplus(drawn).mean()


def hinge(real: Tensor, drawn: Tensor) -> tuple[Tensor, Tensor]:
    """Lim and Ye 2017, "Geometric GAN", eq. 15 and 16; Miyato et al. 2018."""
    return -drawn.mean(), functional.relu(1 - real).mean() + functional.relu(1 + drawn).mean()


def least_squares(real: Tensor, drawn: Tensor) -> tuple[Tensor, Tensor]:
    """Mao et al. 2017, "Least squares generative adversarial networks", eq. 9."""
    return 0.5 * ((drawn - 1) ** 2).mean(), 0.5 * ((real - 1) ** 2).mean() + 0.5 * (drawn**2).mean()


def relativistic(real: Tensor, drawn: Tensor) -> tuple[Tensor, Tensor]:
    """Each drawn face against the real one beside it: Huang et al. 2024, "The GAN is dead; long live the GAN!", eq. 2."""
    return functional.softplus(real - drawn).mean(), functional.softplus(drawn - real).mean()


GAN_LOSSES: Mapping[str, GanLoss] = {
    "non-saturating": non_saturating,
    "hinge": hinge,
    "least-squares": least_squares,
    "relativistic": relativistic,
}


class Adversary(Protocol):
    """An opponent that learns beside the network: it adds a term to the loss, and takes its own step after the network's."""

    def loss(self, performer: str, drawn: Tensor, batch: Batch, now: Moment) -> Tensor:
        """The term for the network; called once a performer, maybe from several threads."""
        ...

    def swap_loss(self, swap: Swap, now: Moment) -> Tensor:
        """The term for another's faces drawn as `swap.performer`; called where the recipe asks something of swaps."""
        ...

    def step(self, drawings: Mapping[str, Sequence[Drawing]], now: Moment) -> Mapping[str, float]:
        """Learn from what the network drew, in pieces that fitted into memory; returns figures for the log."""
        ...

    def begin(self) -> None:
        """Start anew from the seed."""

    def tensors(self) -> Mapping[str, Tensor]:
        """All that a checkpoint needs of it."""
        ...

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Go on from what `tensors` returned."""
        ...


class Discriminators:
    """The `Adversary` of a training: discriminators, their optimiser, and what they say.

    A discriminator sees a face cut out by its mask before grey: a real one by its true mask, a drawn one by the mask that was
    drawn with it. So picture and mask are judged together, nothing is gained by drawing an empty mask, and the surroundings,
    which differ from performer to performer, give nothing away.
    """

    def __init__(self, recipe: TrainRecipe, performers: Sequence[str], device: torch.device | str = "cpu") -> None:
        self.recipe, self._gan_loss = recipe, GAN_LOSSES[recipe.gan_loss]
        self._performers, self.micro_batch = tuple(performers), recipe.batch_size
        self.networks = self._fresh_networks().to(device)
        # No momentum from before: what is wrong with the drawings changes from step to step.
        self._optimizer = torch.optim.Adam(self.networks.parameters(), recipe.learning_rate, (0.0, 0.99), fused=True)

    def loss(self, performer: str, drawn: Tensor, batch: Batch, now: Moment) -> Tensor:
        """What the network loses on faces drawn as `performer`, (B, 3 or 4, H, W); batch: real faces of that performer."""
        if now.progress < self.recipe.adversarial_from or not self.recipe.adversarial_weight:
            return drawn.new_zeros(())
        return self.recipe.adversarial_weight * self._generator_loss(performer, cut_out(drawn, batch.face), batch)

    def swap_loss(self, swap: Swap, now: Moment) -> Tensor:
        """What the network loses on another's faces drawn as `swap.performer`."""
        if now.progress < self.recipe.adversarial_from or not self.recipe.adversarial_swap_weight:
            return swap.drawn.new_zeros(())
        drawn = cut_out(swap.drawn, swap.plate.face)
        return self.recipe.adversarial_swap_weight * self._generator_loss(swap.performer, drawn, swap.real)

    def step(self, drawings: Mapping[str, Sequence[Drawing]], now: Moment) -> Mapping[str, float]:
        """One step on all that was drawn; returns figures by name.

        `loss`; `real` and `drawn`: the share of patches taken for real. A discriminator that is of use is right about more than
        half of them, but not about all. A step whose loss or gradient is no number changes nothing.
        """
        if now.progress < self.recipe.adversarial_from:
            return {}
        gradients, totals = within_memory(self, lambda: self._gradients(drawings))
        parallel.sum_over_ranks([*gradients, totals])
        self._descend(gradients, now)
        loss_sum, real_share, drawn_share, weights = totals.tolist()
        if not weights:
            return {}
        return {"loss": loss_sum, "real": real_share / weights, "drawn": drawn_share / weights}

    def _gradients(self, drawings: Mapping[str, Sequence[Drawing]]) -> tuple[list[Tensor], Tensor]:
        """By parameter; and (loss, shares of real and drawn patches taken for real, weight), (4,)."""
        parameters = list(self.networks.parameters())
        gradients, totals = [torch.zeros_like(each) for each in parameters], parameters[0].new_zeros(4)
        for performer, real, drawn in self._pairs(drawings):
            weight = len(real) / self.recipe.batch_size  # of a piece of the batch, or of this process's share
            loss, shares = self._discriminator_loss(performer, real, drawn)
            found = torch.autograd.grad(loss * weight, parameters, allow_unused=True)
            gradients = [total if more is None else total + more for total, more in zip(gradients, found, strict=True)]
            totals += weight * torch.stack([loss.detach(), *shares, loss.new_ones(())])
        return gradients, totals

    def begin(self) -> None:
        """Start anew from the seed, with nothing learned."""
        self.networks.load_state_dict(self._fresh_networks().state_dict())
        self._optimizer.state.clear()

    def tensors(self) -> Mapping[str, Tensor]:
        """Weights as `weights/NAME`, moments as `optimizer/INDEX/KEY`."""
        weights = {f"weights/{name}": tensor for name, tensor in self.networks.state_dict().items()}
        moments = {
            f"optimizer/{index}/{key}": value
            for index, state in self._optimizer.state_dict()["state"].items()
            for key, value in state.items()
        }
        return weights | moments

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Go on from what `tensors` returned. Raises BadInput where it does not fit."""
        weights = {name.removeprefix("weights/"): each for name, each in tensors.items() if name.startswith("weights/")}
        try:
            self.networks.load_state_dict(weights)
        except RuntimeError as error:
            raise BadInput(f"the checkpoint's discriminators do not fit this recipe: {str(error).splitlines()[0]}") from error
        state: dict[int, dict[str, Tensor]] = {}
        for name, value in tensors.items():
            if name.startswith("optimizer/"):
                _, index, key = name.split("/")
                state.setdefault(int(index), {})[key] = value
        self._optimizer.load_state_dict({"state": state, "param_groups": self._optimizer.state_dict()["param_groups"]})

    # ---- how -------------------------------------------------------------------------------------------------------------

    def _fresh_networks(self) -> nn.ModuleDict:
        size_px, width = self.recipe.resolution_px, self.recipe.width
        with torch.random.fork_rng():
            torch.manual_seed(self.recipe.seed + 1)
            return nn.ModuleDict({name: PatchDiscriminator(size_px, width) for name in self._performers})

    def _generator_loss(self, performer: str, drawn: Tensor, real: Batch) -> Tensor:
        judge = self.networks[performer]
        verdict = judge(drawn)
        # Only the relativistic loss compares with real faces; the others ignore them.
        real_verdict = judge(cut_out(real.target, real.face)) if self._gan_loss is relativistic else verdict.detach()
        return self._gan_loss(real_verdict, verdict)[0]

    def _pairs(self, drawings: Mapping[str, Sequence[Drawing]]) -> Iterator[tuple[str, Tensor, Tensor]]:
        """Whose discriminator is to tell which real faces from which drawn ones, all cut out, (B, 3, H, W)."""
        for performer, pieces in drawings.items():
            for piece in pieces:
                if self.recipe.adversarial_weight:
                    real = cut_out(piece.batch.target, piece.batch.face)
                    yield from self._pieces(performer, real, cut_out(piece.drawn, piece.batch.face))
                if self.recipe.adversarial_swap_weight and (swap := piece.swap) is not None:
                    real = cut_out(swap.real.target, swap.real.face)
                    yield from self._pieces(swap.performer, real, cut_out(swap.drawn, swap.plate.face))

    def _pieces(self, performer: str, real: Tensor, drawn: Tensor) -> Iterator[tuple[str, Tensor, Tensor]]:
        for pair in zip(real.split(self.micro_batch), drawn.split(self.micro_batch), strict=True):
            yield performer, *pair

    def _discriminator_loss(self, performer: str, real: Tensor, drawn: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """The loss on real faces and drawn ones, and the shares of either that were taken for real."""
        judge, penalty = self.networks[performer], self.recipe.gradient_penalty
        is_relativistic = self._gan_loss is relativistic
        real.requires_grad_(penalty > 0)
        drawn.requires_grad_(penalty > 0 and is_relativistic)
        on_real, on_drawn = judge(real), judge(drawn)
        loss = self._gan_loss(on_real, on_drawn)[1]
        if real.requires_grad:
            loss = loss + 0.5 * penalty * gradient_penalty(on_real, real)
        if drawn.requires_grad:
            loss = loss + 0.5 * penalty * gradient_penalty(on_drawn, drawn)
        border = (on_real.mean() + on_drawn.mean()).detach() / 2 if is_relativistic else _BORDERS[self.recipe.gan_loss]
        return loss, ((on_real > border).float().mean(), (on_drawn > border).float().mean())

    def _descend(self, gradients: Sequence[Tensor], now: Moment) -> None:
        if not all(bool(torch.isfinite(each).all()) for each in gradients):
            return
        for parameter, gradient in zip(self.networks.parameters(), gradients, strict=True):
            parameter.grad = gradient.contiguous()
        for group in self._optimizer.param_groups:
            group["lr"] = now.learning_rate * self.recipe.discriminator_speed
        self._optimizer.step()


_BORDERS = {"non-saturating": 0.0, "hinge": 0.0, "least-squares": 0.5}
"""Above this verdict a face is taken for real; relativistic verdicts have no border of their own."""


class PatchDiscriminator(nn.Module):
    """(B, 3, H, W) -> (B, 1, H', W'): a verdict for each patch, H' from 6 to 11; higher is more real.

    Averaged before each halving and without normalisation, like the networks that it judges.
    """

    def __init__(self, resolution_px: int, width: float) -> None:
        super().__init__()
        num_halvings = max(1, (resolution_px // 6).bit_length() - 1)
        channels = [scaled(min(512, 64 << depth), width) for depth in range(num_halvings + 1)]
        self.stem = nn.Conv2d(3, channels[0], 3, padding=1)
        downs = [SmoothDownscale(before, after) for before, after in pairwise(channels)]
        self.down = nn.Sequential(*downs)
        self.verdict = nn.Conv2d(channels[-1], 1, 3, padding=1)

    def forward(self, pictures: Tensor) -> Tensor:
        verdicts: Tensor = self.verdict(self.down(functional.leaky_relu(self.stem(2 * pictures - 1), 0.1)))
        return verdicts


def cut_out(pictures: Tensor, face: Tensor) -> Tensor:
    """Faces before grey: by their own fourth channel where they have one, else by `face` (B, 1, H, W)."""
    mask = pictures[:, 3:4] if pictures.shape[1] == 4 else face
    return mask * pictures[:, :3] + (1 - mask) * 0.5


def gradient_penalty(verdicts: Tensor, pictures: Tensor) -> Tensor:
    """The squared gradient of a picture's mean verdict, summed over its pixels: R1 on real pictures, R2 on drawn ones.

    Source: Mescheder et al. 2018, "Which training methods for GANs do actually converge?", eq. 9 and 10.
    """
    (gradient,) = torch.autograd.grad(verdicts.mean((1, 2, 3)).sum(), pictures, create_graph=True)
    return gradient.square().sum((1, 2, 3)).mean()
