"""Makes the starter of `quick` from rendered performers: `python tools/make_starter.py CLIPS WORK [--steps N] [--out FILE]`.

CLIPS holds a clip for each performer (tools/starter_performers.py); WORK gets their face sets and the training's figures. One
encoder and one decoder learn all performers at once; who is to be drawn is told to the decoder as a scale and a shift of its
channels, and in one face of five it is told nothing, which is the decoder that a new performer begins with. Losses, warp and
sizes are those of `quick`. On a GPU in minutes, on two CPU cores in a day.
"""

from __future__ import annotations

import argparse
import copy
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

import understudy
from understudy.imaging.expression import measure_standards
from understudy.model.augment import make_batch
from understudy.model.colour import COMMON_MEAN, COMMON_SPREAD, measure_standard
from understudy.model.losses import reconstruction_loss
from understudy.model.networks import FaceSwapNetwork, build_network
from understudy.model.networks_quick import QuickDecoder, QuickEncoder
from understudy.model.optimisers import make_optimizer
from understudy.model.precision import autocast, working_type
from understudy.model.schedule import moment, step_generator
from understudy.model.starter import FILE, write_starter
from understudy.model.swapper import best_device
from understudy.recipes import train_recipe
from understudy.stages._training_faces import MARGIN, load_performers
from understudy.store.hashing import sha256_of_footage
from understudy.trust.consent import create_record
from understudy.trust.permission import gate_face_sets, may_train
from understudy.trust.records import Footage
from understudy.types import TrainRecipe

UNTOLD_SHARE = 0.2
"""Of the faces that the decoder draws without being told whose they are."""

SAY_EVERY = 100


def main() -> None:
    """Extract, train, write the starter."""
    asked = _parser().parse_args()
    folders = face_sets(sorted(asked.clips.glob("*.mp4")), asked.work, asked.jobs)
    recipe = replace(train_recipe("quick"), batch_size=asked.batch, warmup_steps=300, seed=asked.seed)
    faces = load_faces(folders, recipe)
    print(f"{len(faces.crops)} faces of {len(faces.means)} performers", flush=True)
    encoder, decoder = learn(faces, recipe, asked.steps)
    tensors = {f"encoder.{name}": each.cpu() for name, each in encoder.state_dict().items()}
    tensors |= {f"decoder.{name}": each.cpu() for name, each in decoder.state_dict().items()}
    notes = {
        "made_by": f"tools/make_starter.py --steps {asked.steps} --batch {asked.batch} --seed {asked.seed}",
        "performers": f"{len(folders)} of tools/starter_performers.py, rendered; nobody who exists",
        "licence": "Apache-2.0",
    }
    write_starter(asked.out, tensors, notes)
    print(f"{asked.out}: {asked.out.stat().st_size / 1e6:.1f} MB")


# ---- the faces --------------------------------------------------------------------------------------------------------------


def face_sets(clips: Sequence[Path], work: Path, num_jobs: int) -> list[Path]:
    """A face set for each clip, with a consent record that says that it shows nobody. Raises Refused as training does."""
    work.mkdir(parents=True, exist_ok=True)
    with ProcessPoolExecutor(num_jobs) as pool:
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


def learn(faces: Faces, recipe: TrainRecipe, num_steps: int) -> tuple[QuickEncoder, QuickDecoder]:
    """Train; returns the averaged encoder and decoder."""
    torch.manual_seed(recipe.seed)
    device, num_performers = faces.crops.device, len(faces.means)
    network = build_network(recipe, ["anybody"]).to(device)
    encoder, decoder = network.encoder, network.decoders["anybody"]
    assert isinstance(encoder, QuickEncoder)
    assert isinstance(decoder, QuickDecoder)
    told_who = ToldWho(num_performers, decoder.num_channels).to(device)
    averaged = copy.deepcopy(network)
    parameters = [*network.parameters(), *told_who.parameters()]
    optimizer, kind, began = make_optimizer(parameters, recipe), working_type(recipe, device), time.monotonic()
    for number in range(num_steps):
        now = moment(recipe, number, number / num_steps)
        random = step_generator(recipe.seed, number, 0)
        chosen = torch.randint(len(faces.crops), (recipe.batch_size,), generator=random).to(device)
        is_untold = (torch.rand(recipe.batch_size, generator=random) < UNTOLD_SHARE).to(device)
        who = faces.who[chosen]
        batch = make_batch(faces.crops[chosen], recipe, MARGIN, now.warp_strength, random, faces.told[chosen])
        seen = (batch.warped - faces.means[who]) / faces.spreads[who] * COMMON_SPREAD + COMMON_MEAN
        with autocast(device, kind):
            pairs = told_who(torch.where(is_untold, num_performers, who))
            features = encoder(seen, batch.expressions)
            # Who is not told must not be learned from the features either: they would hand on whose face it is.
            features = torch.where(is_untold[:, None, None, None], features.detach(), features)
            drawn = decoder(features, pairs).float()
        loss = reconstruction_loss(drawn, batch, recipe)
        optimizer.zero_grad()
        loss.backward()
        for parameter in parameters:
            assert parameter.grad is not None
            parameter.grad = parameter.grad.contiguous()
        nn.utils.clip_grad_norm_(parameters, recipe.gradient_clip)
        for group in optimizer.param_groups:
            group["lr"] = now.learning_rate
        optimizer.step()
        _average(averaged, network, min(recipe.ema_decay, (number + 1) / (number + 11)))
        if number % SAY_EVERY == 0 or number == num_steps - 1:
            rate = (number + 1) * recipe.batch_size / (time.monotonic() - began)
            print(f"step {number} of {num_steps}, loss {loss.item():.4f}, {rate:.0f} faces a second", flush=True)
    return averaged.encoder, averaged.decoders["anybody"]


@torch.no_grad()
def _average(averaged: FaceSwapNetwork, network: FaceSwapNetwork, decay: float) -> None:
    torch._foreach_lerp_(list(averaged.parameters()), list(network.parameters()), 1 - decay)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("clips", type=Path, help="a folder with a clip of each performer")
    parser.add_argument("work", type=Path, help="gets face sets and consent records")
    parser.add_argument("--steps", type=int, default=8000)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=2, help="clips extracted at a time")
    parser.add_argument("--out", type=Path, default=Path(understudy.__file__).parent / "model" / FILE)
    return parser


if __name__ == "__main__":
    main()
