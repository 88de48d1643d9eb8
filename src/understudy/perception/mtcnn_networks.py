"""The three networks of MTCNN in torch, layer for layer as published (Zhang et al. 2016)."""

from __future__ import annotations

from collections.abc import Mapping

import torch.nn.functional as F
from torch import Tensor, nn


class MtcnnNetwork(nn.Module):
    """One of the three networks: convolutions, PReLU and pooling, then a score and a box; the last also gives five points."""

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        super().__init__()
        for name, tensor in tensors.items():
            self.register_buffer(name.replace(".", "_"), tensor)
        self.kind = "proposal" if "conv4_1.weight" in tensors else "output" if "dense6_1.weight" in tensors else "refinement"

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """`B 3 H W`, -1..1 -> scores `B`, offsets `B 4` and, of the last, points `B 10`; the first gives maps `B . H W`."""
        if self.kind == "proposal":
            x = self._prelu(F.max_pool2d(self._convolve(x, 1), 2, 2, ceil_mode=True), 1)
            x = self._convolve(self._prelu(self._convolve(x, 2), 2), 3)
            x = self._prelu(x, 3)
            scores, offsets = (F.conv2d(x, self._get(f"{n}_weight"), self._get(f"{n}_bias")) for n in ("conv4_1", "conv4_2"))
            return scores.softmax(dim=1)[:, 1], offsets
        depth = 3 if self.kind == "refinement" else 4
        pools = (3, 3, 0) if self.kind == "refinement" else (3, 3, 2, 0)
        for number, pool in enumerate(pools, 1):
            x = self._prelu(self._convolve(x, number), number)
            x = F.max_pool2d(x, pool, 2, ceil_mode=True) if pool else x
        x = x.permute(0, 3, 2, 1).flatten(1)  # the original's memory order: columns before rows
        x = self._prelu(self._dense(x, f"dense{depth + 1}"), depth + 1)
        heads = [self._dense(x, f"dense{depth + 2}_{head}") for head in range(1, depth)]
        return heads[0].softmax(dim=1)[:, 1], *heads[1:]

    def _get(self, name: str) -> Tensor:
        return self.get_buffer(name)

    def _convolve(self, x: Tensor, number: int) -> Tensor:
        return F.conv2d(x, self._get(f"conv{number}_weight"), self._get(f"conv{number}_bias"))

    def _prelu(self, x: Tensor, number: int) -> Tensor:
        return F.prelu(x, self._get(f"prelu{number}_weight"))

    def _dense(self, x: Tensor, name: str) -> Tensor:
        return F.linear(x, self._get(f"{name}_weight"), self._get(f"{name}_bias"))
