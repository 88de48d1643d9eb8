"""The state of a training run and its one step: network, averaged network, optimisers; tensors only."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import chain

import torch
from torch import Tensor, nn

from understudy.model.augment import Batch, make_batch
from understudy.model.colour import ColourStandard, mean_skin, without_rim
from understudy.model.losses import reconstruction_loss
from understudy.model.networks import build_network
from understudy.types import BadInput, TrainRecipe

NUM_CALIBRATION_FACES = 96


class Trainer:
    """Trains one shared encoder and a decoder per performer on faces that stay in the device's memory.

    crops: by performer, (N, 5, S, S) uint8: RGB, face mask, feature mask, `margin` times as wide as the network's framing.
    The draw of step n follows from (seed, n) alone, so a resumed run goes on exactly as an unbroken one.
    """

    def __init__(
        self, crops: Mapping[str, Tensor], standards: Mapping[str, ColourStandard], recipe: TrainRecipe, margin: float
    ) -> None:
        self.crops, self.standards, self.recipe, self.margin = crops, standards, recipe, margin
        self.performers = tuple(crops)
        device = next(iter(crops.values())).device
        with torch.random.fork_rng():
            torch.manual_seed(recipe.seed)
            self.network = build_network(recipe, self.performers).to(device)
        self.averaged = build_network(recipe, self.performers).to(device)
        self.averaged.load_state_dict(self.network.state_dict())
        self.optimizers = [_optimizer(modules, recipe) for modules in self._optimised_together()]
        self.num_steps = 0
        num_workers = min(len(self.performers), torch.get_num_threads()) if device.type == "cpu" else 1
        is_shared = num_workers > 1 and not recipe.alternate_performers
        self._pool = ThreadPoolExecutor(num_workers, initializer=torch.set_num_threads, initargs=(1,)) if is_shared else None

    def step(self, progress: float) -> dict[str, float]:
        """One step on a batch of each performer; progress: 0..1 through the run. Returns the loss of each performer.

        A step whose loss is not finite changes nothing.
        """
        learning_rate = scheduled_learning_rate(self.recipe, self.num_steps, progress)
        warp_strength = scheduled_warp(self.recipe, progress)
        self.network.train()
        if self.recipe.alternate_performers:
            losses: dict[str, float] = {}
            for performer, optimizer in zip(self.performers, self.optimizers, strict=True):
                losses |= self._descend([performer], optimizer, learning_rate, warp_strength)
        else:
            losses = self._descend(self.performers, self.optimizers[0], learning_rate, warp_strength)
        self.num_steps += 1
        self._average()
        return losses

    def _descend(
        self, performers: Sequence[str], optimizer: torch.optim.Optimizer, learning_rate: float, warp_strength: float
    ) -> dict[str, float]:
        """Gradient step on the summed loss of `performers`."""
        parts = list(self._side_by_side(lambda performer: self._gradients(performer, warp_strength), performers))
        values = {name: loss for name, (loss, _) in zip(performers, parts, strict=True)}
        if not all(math.isfinite(loss) for loss in values.values()):
            return values
        for parameter in _parameters(optimizer):
            shares = [gradients[parameter] for _, gradients in parts if parameter in gradients]
            parameter.grad = shares[0] if len(shares) == 1 else torch.stack(shares).sum(0)
        if self.recipe.gradient_clip:
            nn.utils.clip_grad_norm_(_parameters(optimizer), self.recipe.gradient_clip)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate
        optimizer.step()
        return values

    def _gradients(self, performer: str, warp_strength: float) -> tuple[float, dict[Tensor, Tensor]]:
        """The loss of one performer's batch, and its gradient by parameter."""
        batch = self._draw(performer, warp_strength)
        decoder = self.network.decoders[performer]
        drawn = decoder(self.network.encoder(self.standards[performer].apply(batch.warped)))
        loss = reconstruction_loss(drawn, batch, self.recipe)
        parameters = [*self.network.encoder.parameters(), *decoder.parameters()]
        return float(loss.detach()), dict(zip(parameters, torch.autograd.grad(loss, parameters), strict=True))

    def _side_by_side(
        self, work: Callable[[str], tuple[float, dict[Tensor, Tensor]]], performers: Sequence[str]
    ) -> Iterable[tuple[float, dict[Tensor, Tensor]]]:
        """Run `work` for each performer: on several CPU cores at once, each on one, because small layers gain nothing from two.

        The gradients are added up in the performers' order, so the result does not depend on who ends first.
        """
        if self._pool is None or len(performers) == 1:
            return map(work, performers)
        return self._pool.map(work, performers)

    def _draw(self, performer: str, warp_strength: float) -> Batch:
        crops, recipe = self.crops[performer], self.recipe
        random = step_generator(recipe.seed, self.num_steps, self.performers.index(performer))
        chosen = torch.randint(len(crops), (recipe.batch_size,), generator=random)
        return make_batch(crops[chosen.to(crops.device)], recipe, self.margin, warp_strength, random)

    @torch.no_grad()
    def _average(self) -> None:
        if not self.recipe.ema_decay:
            return
        # The average starts short, so that the first, random weights do not linger in it.
        decay = min(self.recipe.ema_decay, self.num_steps / (self.num_steps + 10))
        torch._foreach_lerp_(list(self.averaged.parameters()), list(self.network.parameters()), 1 - decay)

    def _optimised_together(self) -> list[list[nn.Module]]:
        """What each optimiser moves. Taking turns, each performer's has moments of its own for the encoder, as in 2017."""
        if not self.recipe.alternate_performers:
            return [[self.network]]
        return [[self.network.encoder, self.network.decoders[name]] for name in self.performers]

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
            codes = network.encoder(self.standards[performer].apply(batch.warped))
            offsets[performer] = {}
            for other in self.performers:
                drawn = network.decoders[other](codes)
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

    def tensors(self) -> dict[str, dict[str, Tensor]]:
        """All that a checkpoint needs, by file."""
        files = {"weights": self.network.state_dict(), "optimizer": self._optimizer_tensors()}
        return files | ({"ema": self.averaged.state_dict()} if self.recipe.ema_decay else {})

    def load(self, files: Mapping[str, Mapping[str, Tensor]], num_steps: int) -> None:
        """Go on from what `tensors` returned at `num_steps`. Raises BadInput where it does not fit this network."""
        try:
            self.network.load_state_dict(dict(files["weights"]))
            self.averaged.load_state_dict(dict(files.get("ema", files["weights"])))
        except (RuntimeError, KeyError) as error:
            raise BadInput(f"the checkpoint does not fit this recipe: {str(error).splitlines()[0]}") from error
        self._load_optimizers(files["optimizer"])
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


def scheduled_learning_rate(recipe: TrainRecipe, num_steps: int, progress: float) -> float:
    """Rises over the first `warmup_steps`, stays, and falls to a fiftieth over the last `decay_fraction` of the run."""
    warm = min(1.0, (num_steps + 1) / recipe.warmup_steps) if recipe.warmup_steps else 1.0
    cool = min(1.0, (1 - progress) / recipe.decay_fraction + 0.02) if recipe.decay_fraction else 1.0
    return recipe.learning_rate * warm * cool


def scheduled_warp(recipe: TrainRecipe, progress: float) -> float:
    """The share of the warp in force: falls evenly to 0 at `warp_until` of the run; 0 there means that it stays whole.

    Warped to the end, a network learns to ignore small changes of size and place: that is what makes a swap pump and swim.
    """
    return max(0.0, 1 - progress / recipe.warp_until) if recipe.warp_until else 1.0


def step_generator(seed: int, step: int, stream: int) -> torch.Generator:
    """The randomness of one performer in one step."""
    return torch.Generator().manual_seed((seed * 1_000_003 + step) * 64 + stream)


def _optimizer(modules: Sequence[nn.Module], recipe: TrainRecipe) -> torch.optim.Optimizer:
    parameters = list(chain.from_iterable(module.parameters() for module in modules))
    betas = (recipe.adam_beta1, recipe.adam_beta2)
    if recipe.weight_decay:
        return torch.optim.AdamW(parameters, recipe.learning_rate, betas, weight_decay=recipe.weight_decay, fused=True)
    return torch.optim.Adam(parameters, recipe.learning_rate, betas, eps=1e-7, fused=True)


def _parameters(optimizer: torch.optim.Optimizer) -> list[Tensor]:
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]
