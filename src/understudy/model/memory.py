"""Whether a training fits into memory, and in pieces of how many faces: known before the first step."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import torch

from understudy.model.adversary import PatchDiscriminator
from understudy.model.cost import network_cost
from understudy.model.networks import num_parameters
from understudy.model.swaps import has_swaps
from understudy.settings import TrainRecipe
from understudy.types import BadInput

# Measured as the peak of a process over its start: `quick` with 16 and 48 faces, `portrait` with 1 and 2 (docs/log.md).
BYTES_PER_PARAMETER = 26
"""The weight, its average, its gradient and two moments in float32, and what a step copies of them."""
BYTES_PER_ACTIVATION = 5.2
"""What is remembered of a layer's output until the gradient has passed it."""
BYTES_PER_PIXEL = 550
"""Of the network's square, for one face: the stored crop in float, grids, masks and what the loss remembers."""

# Of the further terms of the loss: `quick` with each of them, 8 and 24 faces at once (docs/log.md).
BYTES_PER_JUDGE_PARAMETER = 40
"""A discriminator's weight, its moments, and gradients of the gradient's own norm."""
BYTES_PER_JUDGED_PIXEL = 2100
"""Of a face that a discriminator of width 1 looks at."""
BYTES_PER_FACE_SEEN = {"mesh": 14e6, "iris": 17e6}
"""What the perceptual loss remembers of a face in MediaPipe's networks, which see it at one size."""
BYTES_PER_PIXEL_SEEN = 2200
"""The same in a network of the VGG kind, counted from its layers."""

SHARE_OF_FREE = 0.85
"""The rest is for the allocator's gaps and for other programs."""

NEARLY_FULL = 0.8
"""From this part of what may be taken on, a run that fits is told of too."""

RESOLUTIONS_PX = (64, 96, 128, 160, 192, 256, 320, 384, 512, 640, 768, 1024)


@dataclass(frozen=True)
class MemoryPlan:
    """micro_batch: faces of each performer that go through the network at once; 0 where not even one fits.

    fixed_gb: weights, moments and the faces held in memory; face_gb: one face of each performer. largest_px: the largest
    picture at which the whole batch still fits at once; 0 where none does.
    """

    batch_size: int
    micro_batch: int
    fixed_gb: float
    face_gb: float
    free_gb: float
    largest_px: int

    @property
    def needed_gb(self) -> float:
        """At the peak, with `micro_batch` faces at once."""
        return self.fixed_gb + max(self.micro_batch, 1) * self.face_gb

    @property
    def is_tight(self) -> bool:
        """Whether a user should know: a batch does not fit at once, or nearly fills what is free."""
        return self.micro_batch < self.batch_size or self.needed_gb > NEARLY_FULL * SHARE_OF_FREE * self.free_gb

    def __str__(self) -> str:
        """One sentence for a person."""
        free = f"{self.free_gb:.1f} GB are free"
        if self.micro_batch == 0:
            return f"does not fit: one face at a time needs {self.needed_gb:.1f} GB, {free}; lower resolution_px or width"
        if self.micro_batch < self.batch_size:
            return f"fits in pieces of {self.micro_batch} of {self.batch_size} faces ({self.needed_gb:.1f} GB; {free})"
        larger = f"; up to {self.largest_px} px would" if self.largest_px else ""
        return f"a batch of {self.batch_size} fits at once ({self.needed_gb:.1f} GB; {free}){larger}"


def plan_memory(recipe: TrainRecipe, num_performers: int = 2, num_faces: int = 600, free_gb: float | None = None) -> MemoryPlan:
    """How a recipe fits into `free_gb` (default: what is free on the device now); num_faces: of all performers, held there."""
    free_gb = free_memory_gb() if free_gb is None else free_gb
    fixed_gb, face_gb = _needs(recipe, num_performers, num_faces)
    num_fitting = int(max(0.0, SHARE_OF_FREE * free_gb - fixed_gb) / face_gb)
    micro_batch = min(recipe.batch_size, num_fitting)
    fitting = [
        px for px in RESOLUTIONS_PX if px >= recipe.resolution_px and _fits(recipe, px, num_performers, num_faces, free_gb)
    ]
    return MemoryPlan(recipe.batch_size, micro_batch, fixed_gb, face_gb, free_gb, max(fitting, default=0))


def free_memory_gb(root: Path = Path("/")) -> float:
    """What the device that trains has free: the GPU's memory, or this machine's, or less where a container limits it.

    root: where `proc` and `sys` are.
    """
    if torch.cuda.is_available():
        return torch.cuda.mem_get_info()[0] / 1e9
    return min(_free_on_machine(root), _free_in_container(root)) / 1e9


def _free_on_machine(root: Path) -> float:
    """Bytes; 1e15 on another system than Linux, where nothing is known and so nothing is forbidden."""
    try:
        lines = (root / "proc/meminfo").read_text(encoding="ascii").splitlines()
        return next(int(line.split()[1]) * 1024.0 for line in lines if line.startswith("MemAvailable"))
    except (OSError, StopIteration):
        return _UNLIMITED


def _free_in_container(root: Path) -> float:
    """Bytes that the control groups of this process have left, of either version; files in the page cache give way.

    Source: Linux kernel, Documentation/admin-guide/cgroup-v2.rst and cgroup-v1/memory.rst.
    """
    try:
        groups = [line.split(":", 2) for line in (root / "proc/self/cgroup").read_text(encoding="utf-8").splitlines()]
    except OSError:
        return _UNLIMITED
    free = _UNLIMITED
    for _, controllers, name in groups:
        if controllers not in ("", "memory"):
            continue
        mount = root / "sys/fs/cgroup" / controllers
        files = _V1_FILES if controllers else _V2_FILES
        folder = mount / name.strip("/")
        # A container may see its own group at the mount, under whatever name; a limit of any group above holds too.
        above = [each for each in folder.parents if each.is_relative_to(mount)]
        free = min([free, *(_left_in_group(each, *files) for each in dict.fromkeys((folder, *above, mount)))])
    return free


def _left_in_group(folder: Path, limit_file: str, used_file: str, cached_field: str) -> float:
    try:
        limit, used = (float((folder / name).read_text(encoding="ascii")) for name in (limit_file, used_file))
        stat = dict(line.split() for line in (folder / "memory.stat").read_text(encoding="ascii").splitlines())
    except (OSError, ValueError):  # no such group, or "max"
        return _UNLIMITED
    return max(0.0, limit - max(0.0, used - float(stat.get(cached_field, 0))))


_UNLIMITED = 1e15
_V2_FILES = ("memory.max", "memory.current", "inactive_file")
_V1_FILES = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")


def _needs(recipe: TrainRecipe, num_performers: int, num_faces: int) -> tuple[float, float]:
    """Gigabytes that are needed in any case, and for one face of each performer, with every term of the loss at work."""
    cost = network_cost(recipe, [f"p{number}" for number in range(num_performers)])
    crops = num_faces * 5 * (1.7 * recipe.resolution_px) ** 2
    num_drawn = 1 + has_swaps(recipe, progress=1) + (recipe.cycle_weight > 0) + (recipe.equivariance_weight > 0)
    fixed = cost.num_parameters * (BYTES_PER_PARAMETER + 4 * (recipe.decay_to_start > 0)) + crops
    face = num_drawn * cost.activations * BYTES_PER_ACTIVATION + recipe.resolution_px**2 * BYTES_PER_PIXEL
    fixed_of_terms, face_of_terms = _needs_of_terms(recipe, num_performers)
    return (fixed + fixed_of_terms) / 1e9, num_performers * (face + face_of_terms) / 1e9


def _needs_of_terms(recipe: TrainRecipe, num_performers: int) -> tuple[float, float]:
    """Bytes that discriminators and face networks need in any case, and for one face."""
    fixed, face = 0.0, 0.0
    num_judged = (recipe.adversarial_weight > 0) + (recipe.adversarial_swap_weight > 0)
    if num_judged:
        with torch.device("meta"):
            judge = PatchDiscriminator(recipe.resolution_px, recipe.width)
        fixed += num_performers * num_parameters(judge) * BYTES_PER_JUDGE_PARAMETER
        face += num_judged * recipe.width * recipe.resolution_px**2 * BYTES_PER_JUDGED_PIXEL
    if recipe.perceptual_weight:
        parts = recipe.perceptual_network.split("+")
        face += sum(BYTES_PER_FACE_SEEN.get(part, BYTES_PER_PIXEL_SEEN * recipe.resolution_px**2) for part in parts)
    return fixed, face


def _fits(recipe: TrainRecipe, resolution_px: int, num_performers: int, num_faces: int, free_gb: float) -> bool:
    try:
        fixed_gb, face_gb = _needs(replace(recipe, resolution_px=resolution_px), num_performers, num_faces)
    except BadInput:  # the architecture has no such size
        return False
    return fixed_gb + recipe.batch_size * face_gb <= SHARE_OF_FREE * free_gb
