"""The article's dismissed rival: a small PixelCNN that draws a face pixel after pixel, told what the L1 network has drawn.

Luminance alone, 24 px and 16 levels: as much as two cores train and draw in half a minute. Shapes: B batch, S = 24 px.
"""

from __future__ import annotations

import time
from collections.abc import Mapping

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.truth.network import crop_of
from experiments.claims import arms
from experiments.claims.model import Arm
from experiments.scoring import answers
from experiments.training import Trained, train
from experiments.workshop import Workshop
from understudy.imaging.colour import LUMA_WEIGHTS, luma
from understudy.imaging.framing import framing
from understudy.imaging.metrics_series import Series
from understudy.model.schedule import step_generator
from understudy.types import FloatArray, Image

SIZE_PX, LEVELS, CHANNELS, NUM_STEPS, BATCH, NUM_FACES = 24, 16, 32, 350, 16, 20


class PixelCnn(nn.Module):
    """Logits of each pixel's level from the pixels above and left of it, and from a condition (B, 1, S, S).

    Source: van den Oord et al. 2016, "Conditional image generation with PixelCNN decoders", without its gates.
    """

    def __init__(self) -> None:
        super().__init__()
        self.first = MaskedConvolution(1, CHANNELS, 7, sees_itself=False)
        self.condition = nn.Conv2d(1, CHANNELS, 5, padding=2)
        self.inner = nn.ModuleList(MaskedConvolution(CHANNELS, CHANNELS, 3, sees_itself=True) for _ in range(4))
        self.last = nn.Conv2d(CHANNELS, LEVELS, 1)

    def forward(self, pixels: Tensor, condition: Tensor) -> Tensor:
        """pixels (B, 1, S, S) in 0..1 -> (B, 16, S, S)."""
        told = self.condition(condition)
        features = functional.relu(self.first(pixels) + told)
        for layer in self.inner:
            features = features + functional.relu(layer(features) + told)
        logits: Tensor = self.last(features)
        return logits


class MaskedConvolution(nn.Conv2d):
    """A convolution that sees what comes before a pixel in reading order, and, if told, the pixel itself."""

    mask: Tensor

    def __init__(self, num_in: int, num_out: int, size: int, *, sees_itself: bool) -> None:
        super().__init__(num_in, num_out, size, padding=size // 2)
        mask = torch.ones(size, size)
        mask[size // 2, size // 2 + int(sees_itself) :] = 0
        mask[size // 2 + 1 :] = 0
        self.register_buffer("mask", mask)

    def forward(self, features: Tensor) -> Tensor:
        return functional.conv2d(features, self.weight * self.mask, self.bias, padding=self.padding)


def drawn(settings: Mapping[str, object], seed: int, shop: Workshop) -> tuple[dict[str, Series], Image]:
    """Swaps of evenly spaced test frames by L1, by L1 with an adversary, or by the PixelCNN, compared as grey pictures.

    times_slower: processor time of drawing a face over that of the L1 network.
    """
    trained = _trained(arms.REFERENCE if settings["by"] != "adversary" else arms.GAN, seed, shop)
    chosen = np.linspace(0, len(shop.pair.frames) - 1, NUM_FACES).round().astype(int)
    truth, region = [], framing(trained.recipe.framing)
    for n in chosen:
        frames = shop.pair.frames[n]
        assert frames.frames.truth is not None
        truth.append(_grey(crop_of(frames.frames.truth, frames.truth_from_frame, region, trained.recipe.resolution_px) / 255.0))
    started = time.process_time()
    made = answers(trained, shop.pair)
    seconds = (time.process_time() - started) / (2 * len(shop.pair.frames))
    pictures, times = np.stack([_grey(made.swap[n]) for n in chosen]), 1.0
    if settings["by"] == "pixelcnn":
        network = _taught(trained, seed)
        started = time.process_time()
        pictures = _sampled(network, pictures, seed)
        times = (time.process_time() - started) / NUM_FACES / seconds
    right = np.stack(truth)
    errors = ((pictures - right) ** 2).mean(axis=(1, 2))
    fine, true_fine = (
        np.stack([each - cv2.GaussianBlur(each, (0, 0), 1.0) for each in several]) for several in (pictures, right)
    )
    series = {
        "grey_psnr_db": Series(-10 * np.log10(errors)),
        "sharpness": Series(fine.std(axis=(1, 2)) / np.maximum(true_fine.std(axis=(1, 2)), 1e-6)),
        "times_slower": Series(np.full(NUM_FACES, times)),
    }
    return series, _tiles(pictures[:: NUM_FACES // 6][:6])


def _trained(arm: Arm, seed: int, shop: Workshop) -> Trained:
    assert arm.training is not None
    return train(arm.training, shop.scale, seed, shop.footage, shop.work, shop.report)


def _taught(trained: Trained, seed: int) -> PixelCnn:
    """A PixelCNN that has learned the performer's faces, given what the L1 network draws of them."""
    trainer, name = trained.trainer, trained.target
    torch.manual_seed(seed)
    network = PixelCnn()
    optimizer = torch.optim.Adam(network.parameters(), 2e-3)
    for step in range(NUM_STEPS):
        chosen = torch.randint(len(trainer.crops[name]), (BATCH,), generator=step_generator(seed, step, 0))
        batch = trainer.still_batch(name, chosen)
        with torch.no_grad():
            condition = _grey_tensor(trained.network.decode(trainer.read(trained.network, name, batch), name)[:, :3])
            levels = _levels(_grey_tensor(batch.target))
        logits = network(levels / (LEVELS - 1), condition)
        loss = functional.cross_entropy(logits, levels[:, 0].long())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return network.eval()


@torch.inference_mode()
def _sampled(network: PixelCnn, conditions: NDArray[np.float32], seed: int) -> NDArray[np.float32]:
    """(N, S, S): drawn pixel after pixel, each in a pass of its own."""
    random = torch.Generator().manual_seed(seed)
    condition = torch.from_numpy(conditions)[:, None]
    pixels = torch.zeros_like(condition)
    for row in range(SIZE_PX):
        for column in range(SIZE_PX):
            # Of the rows below, none are drawn yet, and of their condition two are looked at.
            chances = network(pixels[:, :, : row + 3], condition[:, :, : row + 3])[:, :, row, column].softmax(1)
            pixels[:, 0, row, column] = torch.multinomial(chances, 1, generator=random)[:, 0] / (LEVELS - 1)
    return pixels[:, 0].numpy()


def _levels(grey: Tensor) -> Tensor:
    return (grey * (LEVELS - 1)).round().clamp(0, LEVELS - 1)


def _grey_tensor(pictures: Tensor) -> Tensor:
    """(B, 3, R, R) -> (B, 1, S, S) luminance."""
    weights = torch.tensor(LUMA_WEIGHTS, device=pictures.device)[None, :, None, None]
    return functional.interpolate((pictures * weights).sum(1, keepdim=True), size=(SIZE_PX, SIZE_PX), mode="area").cpu()


def _grey(picture: FloatArray) -> NDArray[np.float32]:
    plane = luma(np.asarray(picture, np.float32)).astype(np.float32)
    return np.asarray(cv2.resize(plane, (SIZE_PX, SIZE_PX), interpolation=cv2.INTER_AREA))


def _tiles(pictures: NDArray[np.float32]) -> Image:
    large = [cv2.resize(each, (112, 112), interpolation=cv2.INTER_NEAREST) for each in pictures]
    return np.repeat(np.rint(255 * np.clip(np.hstack(large), 0, 1)).astype(np.uint8)[..., None], 3, axis=2)
