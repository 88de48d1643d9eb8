"""Makes the starter of `quick` from rendered performers: `python tools/make_starter.py CLIPS WORK [--steps N] [--out FILE]`.

CLIPS holds a clip for each performer (tools/starter_performers.py); WORK gets their face sets and the training's figures. One
encoder and one decoder learn all performers at once; who is to be drawn is told to the decoder as a scale and a shift of its
channels, and in one face of five it is told nothing, which is the decoder that a new performer begins with. Losses, warp and
sizes are those of `quick`. On a GPU in minutes, on two CPU cores in a day; stopped, the same command goes on where it was.
"""

from __future__ import annotations

import argparse
import copy
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import entry
import torch
from torch import Tensor, nn

import understudy
from understudy.imaging.expression import measure_standards
from understudy.model.augment import make_batch
from understudy.model.colour import COMMON_MEAN, COMMON_SPREAD, measure_standard
from understudy.model.losses import reconstruction_loss
from understudy.model.networks import build_network
from understudy.model.networks_quick import QuickDecoder, QuickEncoder
from understudy.model.optimisers import load_optimizers, make_optimizer, optimizer_tensors
from understudy.model.precision import autocast, working_type
from understudy.model.schedule import Moment, moment, step_generator
from understudy.model.starter import FILE, write_starter
from understudy.model.swapper import best_device
from understudy.recipes import train_recipe
from understudy.settings import TrainRecipe
from understudy.stages._training_faces import MARGIN, load_performers
from understudy.store.checkpoints import Checkpoint, latest_valid, load_tensors, prune, save_checkpoint
from understudy.store.hashing import sha256_of_footage
from understudy.trust.consent import create_record
from understudy.trust.permission import gate_face_sets, may_train
from understudy.trust.records import Footage
from understudy.types import BadInput

UNTOLD_SHARE = 0.2
"""Of the faces that the decoder draws without being told whose they are."""

SAY_EVERY = 100
SAVE_SECONDS = 60.0


def main() -> None:
    """Extract, train, write the starter."""
    asked = _parser().parse_args()
    folders = face_sets(sorted(asked.clips.glob("*.mp4")), asked.work, asked.jobs)
    recipe = replace(train_recipe("quick"), batch_size=asked.batch, warmup_steps=300, seed=asked.seed)
    faces = load_faces(folders, recipe)
    print(f"{len(faces.crops)} faces of {len(faces.means)} performers", flush=True)
    notes = {
        "made_by": f"tools/make_starter.py --steps {asked.steps} --batch {asked.batch} --seed {asked.seed}",
        "performers": f"{len(folders)} of tools/starter_performers.py, rendered; nobody who exists",
        "licence": "Apache-2.0",
    }
    learner = Learner(faces, recipe, asked.steps)
    learn(learner, asked.work, notes)
    write_starter(asked.out, learner.starter(), notes)
    print(f"{asked.out}: {asked.out.stat().st_size / 1e6:.1f} MB")


# ---- the faces --------------------------------------------------------------------------------------------------------------


def face_sets(clips: Sequence[Path], work: Path, num_jobs: int) -> list[Path]:
    """A face set for each clip, with a consent record that says that it shows nobody. Raises Refused as training does."""
    work.mkdir(parents=True, exist_ok=True)
    with ProcessPoolExecutor(num_jobs, initializer=entry.end_quietly) as pool:
        folders = list(pool.map(partial(_face_set, work=work), clips))
    may_train(folders, work / "consent")
    gate_face_sets(folders, work)
    return folders


def _face_set(clip: Path, work: Path) -> Path:
    torch.set_num_threads(1)
    folder, consent = work / "faces" / clip.stem, work / "consent"
    understudy.extract(clip, performer=clip.stem, out=folder)
    if not (consent / f"{clip.stem}.toml").is_file():
        create_record(consent, clip.stem, "synthetic", footage=Footage((sha256_of_footage(clip),)))
    return folder


@dataclass(frozen=True)
class Faces:
    """crops: (N, 5, S, S) uint8; who: (N,) the performer's number; told: (N, 9) expressions; means, spreads: (P, 3, 1, 1) of
    the performers' skins."""

    crops: Tensor
    who: Tensor
    told: Tensor
    means: Tensor
    spreads: Tensor


def load_faces(folders: Sequence[Path], recipe: TrainRecipe) -> Faces:
    """All faces on the device, with what is ordinary for each performer."""
    performers, device = load_performers(folders, recipe), best_device()
    standards = measure_standards({each.performer: each.readings.numpy() for each in performers})
    told = [torch.from_numpy(standards[each.performer].apply(each.readings.numpy())) for each in performers]
    skins = [measure_standard(each.crops) for each in performers]
    who = torch.repeat_interleave(torch.arange(len(performers)), torch.tensor([len(each.crops) for each in performers]))
    means, spreads = (torch.tensor(each)[:, :, None, None] for each in zip(*((s.mean, s.spread) for s in skins), strict=True))
    crops = torch.cat([each.crops for each in performers])
    return Faces(*(each.to(device) for each in (crops, who, torch.cat(told), means, spreads)))


# ---- the training -----------------------------------------------------------------------------------------------------------


class ToldWho(nn.Module):
    """For each performer a scale and a shift of the decoder's channels at every size; number P is nobody: 1 and 0."""

    def __init__(self, num_performers: int, num_channels: Sequence[int]) -> None:
        super().__init__()
        self.log_scales = nn.ParameterList(0.1 * torch.randn(num_performers, num) for num in num_channels)
        self.shifts = nn.ParameterList(0.1 * torch.randn(num_performers, num) for num in num_channels)

    def forward(self, who: Tensor) -> list[tuple[Tensor, Tensor]]:
        """who: (B,) -> pairs of (B, C, 1, 1)."""
        pairs = []
        for scales, shifts in zip(self.log_scales, self.shifts, strict=True):
            both = [torch.cat([each, torch.zeros_like(each[:1])])[who][:, :, None, None] for each in (scales, shifts)]
            pairs.append((both[0].exp(), both[1]))
        return pairs


class Learner:
    """The training: one encoder and one decoder for all performers, and their running average.

    Step n draws from (seed, n) alone, so that a training that goes on from `tensors` ends as one that was never stopped.
    """

    def __init__(self, faces: Faces, recipe: TrainRecipe, num_steps: int) -> None:
        torch.manual_seed(recipe.seed)
        self.faces, self.recipe, self.num_steps, self.steps_done = faces, recipe, num_steps, 0
        self.device = faces.crops.device
        self.network = build_network(recipe, ["anybody"]).to(self.device)
        encoder, decoder = self.network.encoder, self.network.decoders["anybody"]
        assert isinstance(encoder, QuickEncoder)
        assert isinstance(decoder, QuickDecoder)
        self.encoder, self.decoder = encoder, decoder
        self.told_who = ToldWho(len(faces.means), decoder.num_channels).to(self.device)
        self.averaged = copy.deepcopy(self.network)
        self.parameters = [*self.network.parameters(), *self.told_who.parameters()]
        self.optimizer = make_optimizer(self.parameters, recipe)

    def step(self) -> float:
        """One step on a batch of all performers' faces; returns its loss."""
        recipe = self.recipe
        now = moment(recipe, self.steps_done, self.steps_done / self.num_steps)
        loss = self._loss(now)
        self.optimizer.zero_grad()
        loss.backward()
        for parameter in self.parameters:
            assert parameter.grad is not None
            parameter.grad = parameter.grad.contiguous()
        nn.utils.clip_grad_norm_(self.parameters, recipe.gradient_clip)
        for group in self.optimizer.param_groups:
            group["lr"] = now.learning_rate
        self.optimizer.step()
        self.steps_done += 1
        self._average(min(recipe.ema_decay, self.steps_done / (self.steps_done + 10)))
        return loss.item()

    def _loss(self, now: Moment) -> Tensor:
        faces, num = self.faces, self.recipe.batch_size
        random = step_generator(self.recipe.seed, now.step, 0)
        chosen = torch.randint(len(faces.crops), (num,), generator=random).to(self.device)
        is_untold = (torch.rand(num, generator=random) < UNTOLD_SHARE).to(self.device)
        who = faces.who[chosen]
        batch = make_batch(faces.crops[chosen], self.recipe, MARGIN, now.warp_strength, random, faces.told[chosen])
        seen = (batch.warped - faces.means[who]) / faces.spreads[who] * COMMON_SPREAD + COMMON_MEAN
        with autocast(self.device, working_type(self.recipe, self.device)):
            pairs = self.told_who(torch.where(is_untold, len(faces.means), who))
            features = self.encoder(seen, batch.expressions)
            # Who is not told must not be learned from the features either: they would hand on whose face it is.
            features = torch.where(is_untold[:, None, None, None], features.detach(), features)
            drawn = self.decoder(features, pairs).float()
        return reconstruction_loss(drawn, batch, self.recipe)

    @torch.no_grad()
    def _average(self, decay: float) -> None:
        torch._foreach_lerp_(list(self.averaged.parameters()), list(self.network.parameters()), 1 - decay)

    def starter(self) -> dict[str, Tensor]:
        """What is to be packed: the averaged encoder and decoder."""
        parts = {"encoder": self.averaged.encoder, "decoder": self.averaged.decoders["anybody"]}
        return {f"{part}.{name}": each.cpu() for part, module in parts.items() for name, each in module.state_dict().items()}

    def tensors(self) -> dict[str, dict[str, Tensor]]:
        """All that `load` needs to go on, by file of a checkpoint."""
        modules = {name: dict(module.state_dict()) for name, module in self._modules().items()}
        return {**modules, "optimizer": optimizer_tensors([self.optimizer])}

    def load(self, checkpoint: Checkpoint) -> None:
        """Go on from where a checkpoint was saved."""
        for name, module in self._modules().items():
            module.load_state_dict(load_tensors(checkpoint, name))
        load_optimizers([self.optimizer], load_tensors(checkpoint, "optimizer"))
        self.steps_done = checkpoint.step

    def _modules(self) -> dict[str, nn.Module]:
        return {"weights": self.network, "ema": self.averaged, "told_who": self.told_who}


def learn(learner: Learner, work: Path, notes: Mapping[str, str]) -> None:
    """Train to the end, saving into `work` now and then, from the checkpoint there if there is one.

    notes: how the starter is made. Raises BadInput where the checkpoint is of a starter that is made in another way.
    """
    if (checkpoint := latest_valid(work)) is not None:
        if checkpoint.state != dict(notes):
            raise BadInput(
                f"{work} holds the training of another starter ({checkpoint.state.get('made_by')}); name another WORK"
            )
        learner.load(checkpoint)
        print(f"going on at step {learner.steps_done}", flush=True)
    began, steps_before, saved = time.monotonic(), learner.steps_done, time.monotonic()
    while learner.steps_done < learner.num_steps:
        loss, done = learner.step(), learner.steps_done
        if done % SAY_EVERY == 0 or done == learner.num_steps:
            seconds_a_step = (time.monotonic() - began) / (done - steps_before)
            left = (learner.num_steps - done) * seconds_a_step / 60
            rate = learner.recipe.batch_size / seconds_a_step
            print(f"step {done} of {learner.num_steps}, loss {loss:.4f}, {rate:.0f} faces/s, {left:.0f} min left", flush=True)
        if time.monotonic() - saved >= SAVE_SECONDS or done == learner.num_steps:
            save_checkpoint(work, done, learner.tensors(), dict(notes))
            prune(work, keep=2)
            saved = time.monotonic()


def clips_parser(words: str, out: Path) -> argparse.ArgumentParser:
    """What a tool is asked that learns from rendered performers; out: what it writes where nothing else is said."""
    parser = entry.parser(words)
    parser.add_argument("clips", type=Path, help="a folder with a clip of each performer")
    parser.add_argument("work", type=Path, help="gets face sets and consent records")
    parser.add_argument("--jobs", type=int, default=2, help="clips extracted at a time")
    parser.add_argument("--out", type=Path, default=out)
    return parser


def _parser() -> argparse.ArgumentParser:
    parser = clips_parser(__doc__, Path(understudy.__file__).parent / "model" / FILE)
    parser.add_argument("--steps", type=int, default=8000)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--seed", type=int, default=0)
    return parser


if __name__ == "__main__":
    entry.run(main)
