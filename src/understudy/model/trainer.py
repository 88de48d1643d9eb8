"""The state of a training run and its one step: network, averaged network, optimisers; tensors only.

How to read it: `Trainer.step` is the table of contents. A further loss term belongs into `_loss`; an opponent that learns
too (a discriminator) is an `Adversary` (adversary.py). What is asked of swaps is in swaps.py.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn

from understudy import parallel
from understudy.imaging.expression import ExpressionStandard, Told, measure_standards
from understudy.model.adversary import Adversary
from understudy.model.augment import Batch, make_batch, make_still_batch, mixed_chances, training_pairs
from understudy.model.colour import ColourStandard
from understudy.model.losses import reconstruction_loss
from understudy.model.networks import FaceSwapNetwork, begin_from, build_network, check_freeze
from understudy.model.optimisers import load_optimizers, make_optimizer, optimizer_tensors, parameters_of
from understudy.model.perceptual import Features, perceptual_loss
from understudy.model.pieces import Part, added_up, in_pieces, share_of_rank, within_memory
from understudy.model.precision import autocast, compiled, first_loss_scale, fused, working_type
from understudy.model.schedule import Moment, moment, slow_steps, step_generator
from understudy.model.starting_point import StartingPoint
from understudy.model.swaps import Drawing, Swap, check_terms, has_swaps, kept_of, partner, swap_loss
from understudy.settings import TrainRecipe
from understudy.types import BadInput

STEPS_TO_A_LARGER_SCALE = 1000
"""So often the loss's scale, halved where gradients overflowed, is tried twice as large again; it halves at once if it must."""


@dataclass(frozen=True)
class StepResult:
    """What a step did. losses: by performer; gradient_norm: the largest of its optimisers', before clipping.

    is_applied: False where a loss or a gradient was no number: the weights that it is of are then as they were, those of
    performers who take another turn not.
    """

    losses: Mapping[str, float]
    gradient_norm: float
    is_applied: bool
    adversary: Mapping[str, float] = field(default_factory=dict)


class Trainer:
    """Trains one shared encoder and a decoder per performer on faces that stay in the device's memory.

    crops: by performer, (N, 5, S, S) uint8: RGB, face mask, feature mask, `margin` times as wide as the network's framing.
    frozen: parts that do not learn: "encoder", or performers' names. micro_batch: faces of each performer that go through the
    network at once; it halves when memory runs out, the batch that a step learns from stays. features: what a frozen face
    network sees, for the perceptual loss. shares: (N,) by performer: how often each face is to be shown where sampling is
    balanced (imaging/sampling.py). readings: (N, 14) by performer, if the network is told (imaging/expression.py); told: how.
    The draw of step n follows from (seed, attempt, n) alone, so a resumed run goes on exactly as an unbroken one, and a run
    that several processes share (parallel.py) sees the same batches: each takes its share of every batch.
    """

    def __init__(
        self,
        crops: Mapping[str, Tensor],
        standards: Mapping[str, ColourStandard],
        recipe: TrainRecipe,
        margin: float,
        adversary: Adversary | None = None,
        frozen: Sequence[str] = (),
        features: Features | None = None,
        shares: Mapping[str, Tensor] | None = None,
        readings: Mapping[str, Tensor] | None = None,
        told: Told | None = None,
    ) -> None:
        check_terms(recipe, features is not None)
        self.expression_standards = _expression_standards(recipe, readings, told)
        self.chances = {name: mixed_chances(each, recipe.balance_fraction) for name, each in (shares or {}).items()}
        self.crops, self.standards, self.recipe, self.margin, self.adversary = crops, standards, recipe, margin, adversary
        self.performers, self.features = tuple(crops), features
        device = next(iter(crops.values())).device
        self.expressions = {name: self.expressions_of(name, (readings or {})[name]) for name in self.expression_standards}
        self.network = self._fresh_network().to(device)
        self.starting_point = StartingPoint(self.network, recipe)
        self.averaged = copy.deepcopy(self.network) if recipe.ema_decay else self.network
        self._freeze(frozen)
        self.working_type = working_type(recipe, device)
        self.loss_scale = first_loss_scale(self.working_type)
        self._encode, self._decode = compiled(self.network, recipe, device)
        self._pairs, self._reconstruction_loss = fused(training_pairs, recipe), fused(reconstruction_loss, recipe)
        self.optimizers = [make_optimizer(self._learning(performers), recipe) for performers in self._turns()]
        self.num_steps, self.attempt, self.micro_batch = 0, 0, recipe.batch_size
        if recipe.batch_size < parallel.world():
            raise BadInput(f"batch_size={recipe.batch_size} cannot be shared by {parallel.world()} processes; raise it")
        num_workers = min(len(self.performers), torch.get_num_threads()) if device.type == "cpu" else 1
        is_shared = num_workers > 1 and not recipe.alternate_performers
        self._pool = ThreadPoolExecutor(num_workers, initializer=torch.set_num_threads, initargs=(1,)) if is_shared else None

    # ---- the step --------------------------------------------------------------------------------------------------------

    def step(self, progress: float) -> StepResult:
        """One step on a batch of each performer; progress: 0..1 through the run.

        A loss or a gradient that is not finite leaves the weights that it is of as they were.
        """
        now = moment(self.recipe, self.num_steps, progress, self.attempt)
        self.network.train()
        results = [
            self._descend(performers, optimizer, now)
            for performers, optimizer in zip(self._turns(), self.optimizers, strict=True)
        ]
        is_applied, norm = all(each.is_applied for each, _ in results), max(each.gradient_norm for each, _ in results)
        if is_applied:
            self.starting_point.step(now)
        self._average()
        self.num_steps += 1
        losses = {name: loss for each, _ in results for name, loss in each.losses.items()}
        if is_applied and self.num_steps % STEPS_TO_A_LARGER_SCALE == 0:
            self.loss_scale = min(2 * self.loss_scale, first_loss_scale(self.working_type))
        drawings = {name: each for _, drawn in results for name, each in drawn.items()}
        figures = self.adversary.step(drawings, now) if self.adversary is not None and is_applied else {}
        return StepResult(losses, norm, is_applied, figures)

    def _turns(self) -> list[tuple[str, ...]]:
        """Whom each optimiser's step is for. Taking turns, each has its own moments for the encoder, as in 2017."""
        return [(name,) for name in self.performers] if self.recipe.alternate_performers else [self.performers]

    def _descend(
        self, performers: Sequence[str], optimizer: torch.optim.Optimizer, now: Moment
    ) -> tuple[StepResult, Mapping[str, Sequence[Drawing]]]:
        """A gradient step on the summed loss of `performers`."""
        part, losses, norm = self._finite_gradients(performers, optimizer, now)
        is_finite = math.isfinite(norm) and all(map(math.isfinite, losses.values()))
        if is_finite:
            self._clip(optimizer, norm)
            for group in optimizer.param_groups:
                group["lr"] = now.learning_rate
            optimizer.step()
        return StepResult(losses, norm, is_finite), part.drawings

    def _finite_gradients(
        self, performers: Sequence[str], optimizer: torch.optim.Optimizer, now: Moment
    ) -> tuple[Part, dict[str, float], float]:
        """The step's gradients, in place, the losses of all ranks and the gradients' norm.

        In float16 under the largest scale of the loss that they bear; a loss that is no number has none.
        """
        while True:
            part = within_memory(self, lambda: added_up(self._parts(performers, now)))
            parameters = parameters_of(optimizer)
            # As the weights lie, whatever the layout in which they flowed back: the fused optimiser insists on that.
            gradients = [part.gradients[parameter].contiguous() for parameter in parameters]
            for parameter, gradient in zip(parameters, gradients, strict=True):
                parameter.grad = gradient
            parallel.sum_over_ranks(gradients)
            if self.loss_scale != 1:
                torch._foreach_div_(gradients, self.loss_scale)
            norm, losses = float(nn.utils.get_total_norm(gradients)), self._summed_over_ranks(part.losses)
            if math.isfinite(norm) or self.loss_scale <= 1 or not all(map(math.isfinite, losses.values())):
                return part, losses, norm
            self.loss_scale /= 2

    def _parts(self, performers: Sequence[str], now: Moment) -> Iterator[Part]:
        """The gradients of each encoder batch: one for all, or, on several CPU cores at once, one for each performer.

        Small layers gain nothing from two cores, so that there each performer takes one. The gradients are added up in the
        performers' order: the result does not depend on who ends first.
        """
        if self._pool is None or len(performers) == 1:
            yield self._gradients(performers, now)
        else:
            yield from self._pool.map(lambda performer: self._gradients([performer], now), performers)

    def _gradients(self, performers: Sequence[str], now: Moment) -> Part:
        """Draw a batch of each of `performers`, run them as one encoder batch, and take the gradient of the summed loss."""
        batches = {name: share_of_rank(self._draw(name, now)) for name in performers}
        # Where swaps are trained, a swap is compared with real faces of whom it shows.
        shown = {name: partner(name, self.performers, now.step) for name in performers if has_swaps(self.recipe, now.progress)}
        others = {name: self._draw(other, now) for name, other in shown.items()}
        pieces = in_pieces(batches, self.micro_batch)
        real = in_pieces({name: share_of_rank(each) for name, each in others.items()}, self.micro_batch)
        return added_up(self._gradients_of_piece(piece, next(real, {}), now) for piece in pieces)

    def _gradients_of_piece(self, batches: Mapping[str, Batch], others: Mapping[str, Batch], now: Moment) -> Part:
        """The same of a piece of the batches, weighted by its share of the whole batch."""
        codes = self._codes(batches)
        drawn = {name: self._drawn(code, name) for name, code in codes.items()}
        swaps = {name: self._swap(name, codes[name], batches[name], others[name], now) for name in others}
        shares = {name: len(batch.target) / self.recipe.batch_size for name, batch in batches.items()}
        losses = {name: self._loss(name, drawn[name], batch, now) * shares[name] for name, batch in batches.items()}
        for name, swap in swaps.items():
            losses[name] = losses[name] + self._swap_loss(name, swap, now) * shares[name]
        parameters = self._learning((*batches, *(swap.performer for swap in swaps.values())))
        total = torch.stack(list(losses.values())).sum() * self.loss_scale
        gradients = torch.autograd.grad(total, parameters) if parameters else ()  # these performers' parts may all be frozen
        if self.recipe.compile == "cuda-graphs":  # the graph writes its next answers into the same memory
            gradients = tuple(each.clone() for each in gradients)
        kept = (
            {}
            if self.adversary is None
            else {name: (kept_of(batches[name], drawn[name], swaps.get(name)),) for name in batches}
        )
        details = {name: loss.detach() for name, loss in losses.items()}
        return Part(details, dict(zip(parameters, gradients, strict=True)), kept)

    def _draw(self, performer: str, now: Moment) -> Batch:
        """The performer's training pairs of this step."""
        crops, recipe = self.crops[performer], self.recipe
        random = step_generator(recipe.seed, now.step, self.performers.index(performer), now.attempt)
        if performer in self.chances:
            chosen = torch.multinomial(self.chances[performer], recipe.batch_size, replacement=True, generator=random)
        else:
            chosen = torch.randint(len(crops), (recipe.batch_size,), generator=random)
        chosen = chosen.to(crops.device)
        told = self.expressions[performer][chosen] if self.expressions else None
        return make_batch(crops.index_select(0, chosen), recipe, self.margin, now.warp_strength, random, told, self._pairs)

    def _codes(self, batches: Mapping[str, Batch]) -> dict[str, Tensor]:
        """What the encoder reads from each performer's faces."""
        faces = [self.standards[name].apply(batch.warped) for name, batch in batches.items()]
        told = [batch.expressions for batch in batches.values() if batch.expressions is not None]
        with autocast(faces[0].device, self.working_type):
            codes = self._encode(torch.cat(faces), torch.cat(told) if told else None).split([len(each) for each in faces])
        return dict(zip(batches, codes, strict=True))

    def _drawn(self, codes: Tensor, performer: str) -> Tensor:
        """The performer, from anybody's codes."""
        with autocast(codes.device, self.working_type):
            return self._decode(codes, performer).float()

    def _loss(self, performer: str, drawn: Tensor, batch: Batch, now: Moment) -> Tensor:
        """What is minimised for one performer: every term of the loss on its own faces is added here."""
        loss = self._reconstruction_loss(drawn, batch, self.recipe)
        if self.recipe.perceptual_weight and now.progress >= self.recipe.perceptual_from:
            assert self.features is not None
            loss = loss + self.recipe.perceptual_weight * perceptual_loss(drawn, batch, self.features)
        if self.adversary is not None:
            loss = loss + self.adversary.loss(performer, drawn, batch, now)
        return loss

    def _swap(self, performer: str, codes: Tensor, batch: Batch, real: Batch, now: Moment) -> Swap:
        """The performer's faces of this step drawn as somebody else."""
        other = partner(performer, self.performers, now.step)
        return Swap(other, self._drawn(codes, other), plate=batch, real=real)

    def _swap_loss(self, performer: str, swap: Swap, now: Moment) -> Tensor:
        """What is minimised of the performer's faces drawn as somebody else: terms without an opponent are in swaps.py."""

        def draw(pictures: Tensor, of: str, to: str) -> Tensor:
            return self._drawn(self._codes({of: replace(swap.plate, warped=pictures)})[of], to)

        # One for all faces of the step, so that it is the same in every piece of the batch and in every process.
        stream = len(self.performers) + self.performers.index(performer)
        random = step_generator(self.recipe.seed, now.step, stream, now.attempt)
        loss = swap_loss(swap, performer, self.recipe, draw, random)
        return loss if self.adversary is None else loss + self.adversary.swap_loss(swap, now)

    def _summed_over_ranks(self, losses: Mapping[str, Tensor]) -> dict[str, float]:
        """The losses as numbers; each rank's are weighted by its share already."""
        values = torch.stack(list(losses.values()))
        parallel.sum_over_ranks([values])
        return dict(zip(losses, values.tolist(), strict=True))

    def _clip(self, optimizer: torch.optim.Optimizer, norm: float) -> None:
        """Limits the gradient, whose norm is given, to the recipe's `gradient_clip`."""
        if self.recipe.gradient_clip:
            nn.utils.clip_grads_with_norm_(parameters_of(optimizer), self.recipe.gradient_clip, torch.tensor(norm))

    @torch.no_grad()
    def _average(self) -> None:
        num_steps = slow_steps(self.num_steps) if self.recipe.ema_decay else 0
        if num_steps:
            # The average starts short, so that the first, random weights do not linger in it.
            decay = min(self.recipe.ema_decay, (self.num_steps + 1) / (self.num_steps + 11)) ** num_steps
            torch._foreach_lerp_(list(self.averaged.parameters()), list(self.network.parameters()), 1 - decay)

    def _modules_of(self, performers: Sequence[str]) -> list[nn.Module]:
        """What the loss of `performers` depends on."""
        return list(dict.fromkeys(part for name in performers for part in self.network.parts_for(name)))

    def _learning(self, performers: Sequence[str]) -> list[Tensor]:
        """The weights that the loss of `performers` moves."""
        modules = self._modules_of(performers)
        return [each for module in modules for each in module.parameters() if each.requires_grad]

    def _freeze(self, parts: Sequence[str]) -> None:
        """Let the named parts keep the weights they begin with; raises BadInput for an unknown one, or if nothing learns."""
        check_freeze(parts, self.performers, self.recipe)
        for part in parts:
            module = self.network.encoder if part == "encoder" else self.network.decoders[part]
            module.requires_grad_(False)
        for turn in self._turns():
            if not self._learning(turn):
                raise BadInput(f"everything that draws {', '.join(turn)} is frozen: nothing is left to learn")

    # ---- looking at it ---------------------------------------------------------------------------------------------------

    @property
    def shown(self) -> FaceSwapNetwork:
        """The network to look at and to use: the averaged one, where the recipe keeps one."""
        return self.averaged

    def read(self, network: FaceSwapNetwork, performer: str, batch: Batch) -> Tensor:
        """What a network (the one in use, or the raw one) reads from a performer's faces."""
        return network.encode(self.standards[performer].apply(batch.warped), batch.expressions)

    def still_batch(self, performer: str, chosen: Tensor) -> Batch:
        """The performer's faces of these numbers, undisturbed, for looking at what has been learned."""
        chosen = chosen.to(self.crops[performer].device)
        told = self.expressions[performer][chosen] if self.expressions else None
        return self.undisturbed(self.crops[performer].index_select(0, chosen), told)

    def undisturbed(self, crops: Tensor, expressions: Tensor | None) -> Batch:
        """Faces as the network is shown them in use; crops: (N, 5, S, S) uint8, expressions: (N, 9)."""
        return make_still_batch(crops, self.recipe, self.margin, expressions)

    def expressions_of(self, performer: str, readings: Tensor) -> Tensor:
        """The performer's readings (N, 14) as the network is told them, (N, 9)."""
        told = self.expression_standards[performer].apply(readings.cpu().numpy())
        return torch.from_numpy(told).to(self.crops[performer].device)

    def is_finite(self) -> bool:
        """Whether all weights are still numbers."""
        return all(bool(torch.isfinite(parameter).all()) for parameter in self.network.parameters())

    def begin(self, tensors: Mapping[str, Tensor] | None = None) -> list[str]:
        """Start anew from the seed, then from the weights of a trained network where they fit; returns what was taken over."""
        self.network.load_state_dict(self._fresh_network().state_dict())
        taken = begin_from(self.network, tensors or {})
        self.starting_point.begin(taken)
        self.averaged.load_state_dict(self.network.state_dict())
        for optimizer in self.optimizers:
            optimizer.state.clear()
        if self.adversary is not None:
            self.adversary.begin()
        self.num_steps = 0
        return taken

    def _fresh_network(self) -> FaceSwapNetwork:
        """What a run begins with, from its seed; it is told the yaw and the parts that are measured."""
        with torch.random.fork_rng():
            torch.manual_seed(self.recipe.seed)
            told = {1 + len(each.parts) for each in self.expression_standards.values()}
            return build_network(self.recipe, self.performers, *told)

    # ---- saving and going on ----------------------------------------------------------------------------------------------

    def tensors(self) -> dict[str, Mapping[str, Tensor]]:
        """All that a checkpoint needs, by file."""
        optimizer = optimizer_tensors(self.optimizers)
        if self.working_type is torch.float16:
            optimizer["loss_scale"] = torch.tensor(self.loss_scale)
        files: dict[str, Mapping[str, Tensor]] = {"weights": self.network.state_dict(), "optimizer": optimizer}
        if self.recipe.ema_decay:
            files["ema"] = self.averaged.state_dict()
        if self.adversary is not None:
            files["adversary"] = self.adversary.tensors()
        return files | self.starting_point.tensors()

    def load(self, files: Mapping[str, Mapping[str, Tensor]], num_steps: int) -> None:
        """Go on from what `tensors` returned at `num_steps`. Raises BadInput where it does not fit this network."""
        try:
            self.network.load_state_dict(dict(files["weights"]))
            self.averaged.load_state_dict(dict(files.get("ema", files["weights"])))
        except (RuntimeError, KeyError) as error:
            raise BadInput(f"the checkpoint does not fit this recipe: {str(error).splitlines()[0]}") from error
        if self.working_type is torch.float16 and "loss_scale" in files["optimizer"]:
            self.loss_scale = float(files["optimizer"]["loss_scale"])
        load_optimizers(self.optimizers, files["optimizer"])
        if self.adversary is not None:
            self.adversary.load(files["adversary"])
        self.starting_point.load(files)
        self.num_steps = num_steps


def _expression_standards(
    recipe: TrainRecipe, readings: Mapping[str, Tensor] | None, told: Told | None
) -> dict[str, ExpressionStandard]:
    """What is ordinary for each performer, where the recipe has the network told. Raises BadInput without readings."""
    if not recipe.is_expression_measured:
        return {}
    if readings is None:
        raise BadInput("is_expression_measured needs what was measured of the faces: give the trainer `readings`")
    return measure_standards({name: each.cpu().numpy() for name, each in readings.items()}, told)
