"""The state of a training run and its one step: network, averaged network, optimisers; tensors only.

How to read it: `Trainer.step` is the table of contents. A further loss term belongs into `_loss`; an opponent that learns
too (a discriminator) implements `Adversary`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import Protocol

import torch
from torch import Tensor, nn

from understudy.model.augment import Batch, make_batch
from understudy.model.colour import ColourStandard, mean_skin, without_rim
from understudy.model.losses import reconstruction_loss
from understudy.model.networks import FaceSwapNetwork, build_network
from understudy.model.schedule import Moment, moment, step_generator
from understudy.types import BadInput, TrainRecipe

NUM_CALIBRATION_FACES = 96


@dataclass(frozen=True)
class StepResult:
    """What a step did. losses: by performer; gradient_norm: the largest of its optimisers', before clipping.

    is_applied: False where a loss or a gradient was no number: the weights are then as they were.
    """

    losses: Mapping[str, float]
    gradient_norm: float
    is_applied: bool
    adversary: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Drawing:
    """One performer's faces of a step, as they went in and as they were drawn; drawn: (B, 3 or 4, R, R), without gradient."""

    batch: Batch
    drawn: Tensor


class Adversary(Protocol):
    """An opponent that learns beside the network: it adds a term to the loss, and takes its own step after the network's."""

    def loss(self, performer: str, drawn: Tensor, batch: Batch, now: Moment) -> Tensor:
        """The term for the network; called once a performer, maybe from several threads."""
        ...

    def step(self, drawings: Mapping[str, Drawing], now: Moment) -> Mapping[str, float]:
        """Learn from what the network drew; returns figures for the log."""
        ...

    def tensors(self) -> Mapping[str, Tensor]:
        """All that a checkpoint needs of it."""
        ...

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Go on from what `tensors` returned."""
        ...


@dataclass
class _Part:
    """What one encoder batch contributes to a step: losses and drawings by performer, the gradient by parameter."""

    losses: dict[str, Tensor]
    gradients: dict[Tensor, Tensor]
    drawings: dict[str, Drawing]


class Trainer:
    """Trains one shared encoder and a decoder per performer on faces that stay in the device's memory.

    crops: by performer, (N, 5, S, S) uint8: RGB, face mask, feature mask, `margin` times as wide as the network's framing.
    The draw of step n follows from (seed, n) alone, so a resumed run goes on exactly as an unbroken one.
    """

    def __init__(
        self,
        crops: Mapping[str, Tensor],
        standards: Mapping[str, ColourStandard],
        recipe: TrainRecipe,
        margin: float,
        adversary: Adversary | None = None,
    ) -> None:
        self.crops, self.standards, self.recipe, self.margin, self.adversary = crops, standards, recipe, margin, adversary
        self.performers = tuple(crops)
        device = next(iter(crops.values())).device
        with torch.random.fork_rng():
            torch.manual_seed(recipe.seed)
            self.network = build_network(recipe, self.performers).to(device)
        self.averaged = build_network(recipe, self.performers).to(device)
        self.averaged.load_state_dict(self.network.state_dict())
        self.optimizers = [_optimizer(self._modules_of(performers), recipe) for performers in self._turns()]
        self.num_steps = 0
        num_workers = min(len(self.performers), torch.get_num_threads()) if device.type == "cpu" else 1
        is_shared = num_workers > 1 and not recipe.alternate_performers
        self._pool = ThreadPoolExecutor(num_workers, initializer=torch.set_num_threads, initargs=(1,)) if is_shared else None

    # ---- the step --------------------------------------------------------------------------------------------------------

    def step(self, progress: float) -> StepResult:
        """One step on a batch of each performer; progress: 0..1 through the run.

        A step whose loss or gradient is not finite leaves the weights as they were.
        """
        now = moment(self.recipe, self.num_steps, progress)
        self.network.train()
        results = [
            self._descend(performers, optimizer, now)
            for performers, optimizer in zip(self._turns(), self.optimizers, strict=True)
        ]
        self.num_steps += 1
        self._average()
        losses = {name: loss for each, _ in results for name, loss in each.losses.items()}
        is_applied, norm = all(each.is_applied for each, _ in results), max(each.gradient_norm for each, _ in results)
        drawings = {name: drawing for _, part in results for name, drawing in part.items()}
        figures = self.adversary.step(drawings, now) if self.adversary is not None and is_applied else {}
        return StepResult(losses, norm, is_applied, figures)

    def _turns(self) -> list[tuple[str, ...]]:
        """Whom each optimiser's step is for. Taking turns, each has its own moments for the encoder, as in 2017."""
        return [(name,) for name in self.performers] if self.recipe.alternate_performers else [self.performers]

    def _descend(
        self, performers: Sequence[str], optimizer: torch.optim.Optimizer, now: Moment
    ) -> tuple[StepResult, Mapping[str, Drawing]]:
        """A gradient step on the summed loss of `performers`."""
        parts = list(self._parts(performers, now))
        _add_up(parts, optimizer)
        norm = self._clip(optimizer)
        losses = {name: float(loss) for part in parts for name, loss in part.losses.items()}
        is_finite = math.isfinite(norm) and all(map(math.isfinite, losses.values()))
        if is_finite:
            for group in optimizer.param_groups:
                group["lr"] = now.learning_rate
            optimizer.step()
        drawings = {name: drawing for part in parts for name, drawing in part.drawings.items()}
        return StepResult(losses, norm, is_finite), drawings

    def _parts(self, performers: Sequence[str], now: Moment) -> Iterable[_Part]:
        """The gradients of each encoder batch: one for all, or, on several CPU cores at once, one for each performer.

        Small layers gain nothing from two cores, so that there each performer takes one. The gradients are added up in the
        performers' order: the result does not depend on who ends first.
        """
        if self._pool is None or len(performers) == 1:
            return [self._gradients(performers, now)]
        return self._pool.map(lambda performer: self._gradients([performer], now), performers)

    def _gradients(self, performers: Sequence[str], now: Moment) -> _Part:
        """Draw a batch of each of `performers`, run them as one encoder batch, and take the gradient of the summed loss."""
        batches = {name: self._draw(name, now) for name in performers}
        drawn = self._drawn(batches)
        losses = {name: self._loss(name, drawn[name], batch, now) for name, batch in batches.items()}
        parameters = [each for module in self._modules_of(performers) for each in module.parameters()]
        gradients = torch.autograd.grad(torch.stack(list(losses.values())).sum(), parameters)
        kept = {} if self.adversary is None else {name: Drawing(batches[name], drawn[name].detach()) for name in performers}
        return _Part(
            {name: loss.detach() for name, loss in losses.items()}, dict(zip(parameters, gradients, strict=True)), kept
        )

    def _draw(self, performer: str, now: Moment) -> Batch:
        """The performer's training pairs of this step."""
        crops, recipe = self.crops[performer], self.recipe
        random = step_generator(recipe.seed, now.step, self.performers.index(performer))
        chosen = torch.randint(len(crops), (recipe.batch_size,), generator=random)
        return make_batch(crops[chosen.to(crops.device)], recipe, self.margin, now.warp_strength, random)

    def _drawn(self, batches: Mapping[str, Batch]) -> dict[str, Tensor]:
        """Each performer's faces as its decoder draws them."""
        faces = [self.standards[name].apply(batch.warped) for name, batch in batches.items()]
        codes = self.network.encode(torch.cat(faces) if len(faces) > 1 else faces[0]).split([len(each) for each in faces])
        return {name: self.network.decode(code, name) for name, code in zip(batches, codes, strict=True)}

    def _loss(self, performer: str, drawn: Tensor, batch: Batch, now: Moment) -> Tensor:
        """What is minimised for one performer: every term of the loss is added here."""
        loss = reconstruction_loss(drawn, batch, self.recipe)
        if self.adversary is not None:
            loss = loss + self.adversary.loss(performer, drawn, batch, now)
        return loss

    def _clip(self, optimizer: torch.optim.Optimizer) -> float:
        """Limits the gradient to the recipe's `gradient_clip`; returns its norm before that."""
        norm = nn.utils.get_total_norm([each.grad for each in _parameters(optimizer) if each.grad is not None])
        if self.recipe.gradient_clip:
            nn.utils.clip_grads_with_norm_(_parameters(optimizer), self.recipe.gradient_clip, norm)
        return float(norm)

    @torch.no_grad()
    def _average(self) -> None:
        if not self.recipe.ema_decay:
            return
        # The average starts short, so that the first, random weights do not linger in it.
        decay = min(self.recipe.ema_decay, self.num_steps / (self.num_steps + 10))
        torch._foreach_lerp_(list(self.averaged.parameters()), list(self.network.parameters()), 1 - decay)

    def _modules_of(self, performers: Sequence[str]) -> list[nn.Module]:
        """What the loss of `performers` depends on."""
        return list(dict.fromkeys(part for name in performers for part in self.network.parts_for(name)))

    # ---- looking at it ---------------------------------------------------------------------------------------------------

    @property
    def shown(self) -> FaceSwapNetwork:
        """The network to look at and to use: the averaged one, where the recipe keeps one."""
        return self.averaged if self.recipe.ema_decay else self.network

    @torch.no_grad()
    def skin_offsets(self) -> dict[str, dict[str, tuple[float, ...]]]:
        """By whose face goes in and whom it is drawn as: what to add to R, G, B so that the skin is on average the performer's.

        Measured on training faces. A network hands on a part of the skin it is shown, however little it is meant to.
        """
        network = self.averaged if self.recipe.ema_decay else self.network
        offsets: dict[str, dict[str, tuple[float, ...]]] = {}
        for performer, crops in self.crops.items():
            chosen = torch.linspace(0, len(crops) - 1, min(len(crops), NUM_CALIBRATION_FACES)).round().long()
            batch = make_batch(crops[chosen.to(crops.device)], self.still_recipe(), self.margin, 0.0, step_generator(0, 0, 0))
            codes = network.encode(self.standards[performer].apply(batch.warped))
            offsets[performer] = {}
            for other in self.performers:
                drawn = network.decode(codes, other)
                mask = without_rim(drawn[:, 3:4] if drawn.shape[1] == 4 else batch.face)
                own = torch.tensor(self.standards[other].mean, device=drawn.device)
                offsets[performer][other] = tuple((own - mean_skin(drawn[:, :3], mask)).tolist())
        return offsets

    def still_recipe(self) -> TrainRecipe:
        """The recipe without any disturbance of its input, for looking at what has been learned."""
        return replace(
            self.recipe,
            warp_fraction=0.0,
            rotation_degrees=0.0,
            scale_fraction=0.0,
            shift_fraction=0.0,
            flip_probability=0.0,
            brightness_fraction=0.0,
            colour_fraction=0.0,
            backdrop_probability=0.0,
        )

    def is_finite(self) -> bool:
        """Whether all weights are still numbers."""
        return all(bool(torch.isfinite(parameter).all()) for parameter in self.network.parameters())

    # ---- saving and going on ----------------------------------------------------------------------------------------------

    def tensors(self) -> dict[str, Mapping[str, Tensor]]:
        """All that a checkpoint needs, by file."""
        files: dict[str, Mapping[str, Tensor]] = {"weights": self.network.state_dict(), "optimizer": self._optimizer_tensors()}
        if self.recipe.ema_decay:
            files["ema"] = self.averaged.state_dict()
        if self.adversary is not None:
            files["adversary"] = self.adversary.tensors()
        return files

    def load(self, files: Mapping[str, Mapping[str, Tensor]], num_steps: int) -> None:
        """Go on from what `tensors` returned at `num_steps`. Raises BadInput where it does not fit this network."""
        try:
            self.network.load_state_dict(dict(files["weights"]))
            self.averaged.load_state_dict(dict(files.get("ema", files["weights"])))
        except (RuntimeError, KeyError) as error:
            raise BadInput(f"the checkpoint does not fit this recipe: {str(error).splitlines()[0]}") from error
        self._load_optimizers(files["optimizer"])
        if self.adversary is not None:
            self.adversary.load(files["adversary"])
        self.num_steps = num_steps

    def _optimizer_tensors(self) -> dict[str, Tensor]:
        return {
            f"{which}/{index}/{key}": value
            for which, optimizer in enumerate(self.optimizers)
            for index, state in optimizer.state_dict()["state"].items()
            for key, value in state.items()
        }

    def _load_optimizers(self, tensors: Mapping[str, Tensor]) -> None:
        for which, optimizer in enumerate(self.optimizers):
            state: dict[int, dict[str, Tensor]] = {}
            for name, value in tensors.items():
                owner, index, key = name.split("/")
                if int(owner) == which:
                    state.setdefault(int(index), {})[key] = value
            optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


def _optimizer(modules: Sequence[nn.Module], recipe: TrainRecipe) -> torch.optim.Optimizer:
    parameters = list(chain.from_iterable(module.parameters() for module in modules))
    betas = (recipe.adam_beta1, recipe.adam_beta2)
    # Without weight decay AdamW is Adam. The epsilon is Keras's, and so the original's.
    return torch.optim.AdamW(parameters, recipe.learning_rate, betas, eps=1e-7, weight_decay=recipe.weight_decay, fused=True)


def _add_up(parts: Sequence[_Part], optimizer: torch.optim.Optimizer) -> None:
    """The sum of the parts' gradients, in their order, becomes each parameter's."""
    for parameter in _parameters(optimizer):
        shares = [part.gradients[parameter] for part in parts if parameter in part.gradients]
        parameter.grad = shares[0] if len(shares) == 1 else torch.stack(shares).sum(0)


def _parameters(optimizer: torch.optim.Optimizer) -> list[Tensor]:
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]
