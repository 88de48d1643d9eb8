"""What a frozen face network sees in a crop, stage by stage: the measure of the perceptual loss.

The networks are those that find landmarks (Apache-2.0) and, where asked for, one of the VGG kind. The identity network is not
among them and must not be: it judges the result, and a judge that was trained against says nothing.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_safetensors
from torch import Tensor
from torch.nn import functional

from understudy.imaging.framing import crop_from_face
from understudy.imaging.meanface import LEFT_EYE, RIGHT_EYE, mean_face
from understudy.imaging.similarity import apply
from understudy.perception.tflite import Graph, GraphNetwork
from understudy.perception.vgg import Training, Vgg16, named_layers
from understudy.perception.weights import load_network
from understudy.types import BadInput, Framing

Features = Callable[[Tensor], Sequence[Tensor]]
"""From crops (B, 3, R, R), RGB in 0..1, to feature maps (B, C, H, W); differentiable."""

NETWORKS = ("mesh", "iris", "mesh+iris", "vgg16", "vggface")
WEIGHTS_OF = {"mesh": ("face_mesh",), "iris": ("iris",), "mesh+iris": ("face_mesh", "iris"), "vgg16": ("vgg16",)}
"""By network, the entries of the table of weights that it needs; vggface comes from the user."""

_MESH_PX, _MESH_MARGIN = 192, 1.5
"""The mesh sees a square this much wider than the box of its landmarks, at this size."""
_IRIS_PX, _IRIS_MARGIN = 64, 2.3
"""The iris network sees a square this much wider than the eye (mediapipe/modules/iris_landmark), at this size."""


def face_features(
    network: str, region: Framing, device: torch.device | str = "cpu", file: str = "", sha256: str = ""
) -> Features:
    """The features of crops in the framing `region`.

    network: one of NETWORKS. file, sha256: the user's own weights for `vgg16` or `vggface`, safetensors of 13 convolutions.
    Missing weights of others are fetched. Raises BadInput where weights cannot be had or are not what they should be.
    """
    check_user_file(network, file)
    if network in ("vgg16", "vggface"):
        return _vgg(network, device, file, sha256)
    parts = [_mesh(region, device) if part == "mesh" else _iris(region, device) for part in network.split("+")]
    return lambda crops: [each for part in parts for each in part(crops)]


def check_user_file(network: str, file: str) -> None:
    """Raises BadInput where the network is none of NETWORKS, or a file of the user's is lacking or of no use for it."""
    if network not in NETWORKS:
        raise BadInput(f"perceptual_network: expected one of {', '.join(NETWORKS)}, got {network!r}")
    if file and network not in ("vgg16", "vggface"):
        raise BadInput(f"perceptual_file goes with perceptual_network=vgg16 or vggface, not {network}")
    if not file and network == "vggface":
        raise BadInput(
            "perceptual_network=vggface needs weights of your own (its makers' terms forbid passing them on): convert them to "
            "safetensors and give perceptual_file=FILE and perceptual_sha256=HASH; perceptual_network=mesh needs none"
        )


def _mesh(region: Framing, device: torch.device | str) -> Features:
    """The five stages of the mesh network, with the face about as large as it expects it."""
    network = _stages(load_network("face_mesh", device))
    points = mean_face()[:, :2]
    square = _MESH_MARGIN * float((points.max(0) - points.min(0)).max())  # face units
    size_px = max(32, 32 * round(_MESH_PX * region.side / square / 32))  # five halvings
    return lambda crops: network(_resized(crops, size_px))


def _iris(region: Framing, device: torch.device | str) -> Features:
    """The stages of the iris network for both eyes, where the mean face has them; it knows left eyes, so one is mirrored."""
    network = _stages(load_network("iris", device))
    left, right = (_eye_grid(region, contour, device) for contour in (LEFT_EYE, RIGHT_EYE))

    def features(crops: Tensor) -> list[Tensor]:
        eyes = [_looked_up(crops, left), _looked_up(crops, right).flip(3)]
        return list(network(torch.cat(eyes)))

    return features


def _eye_grid(region: Framing, contour: Sequence[int], device: torch.device | str) -> Tensor:
    """Where in a crop (grid coordinates) the square around one eye lies: (1, 64, 64, 2)."""
    points = apply(crop_from_face(region, 2.0), mean_face()[list(contour), :2]) - 1  # -1..1 from edge to edge
    low, high = points.min(0), points.max(0)
    centre, half = (low + high) / 2, _IRIS_MARGIN * float((high - low).max()) / 2
    steps = ((2 * torch.arange(_IRIS_PX) + 1) / _IRIS_PX - 1) * half
    y, x = torch.meshgrid(steps + float(centre[1]), steps + float(centre[0]), indexing="ij")
    return torch.stack([x, y], dim=-1)[None].to(device)


def _stages(network: torch.nn.Module) -> GraphNetwork:
    """The network up to its last halving, giving what there is before each."""
    assert isinstance(network, GraphNetwork)
    graph = network.graph
    halvings = [o for o in graph.operations if o.kind == "convolution" and tuple(o.options["stride"]) == (2, 2)]
    ends = tuple(dict.fromkeys(o.inputs[0] for o in halvings if o.inputs[0] != graph.input))
    last = max(n for n, o in enumerate(graph.operations) if o.output in ends)
    operations, steps = graph.operations[: last + 1], list(network.steps)[: last + 1]
    tensors = {
        name: step.get_buffer(role) for o, step in zip(operations, steps, strict=True) for role, name in o.weights.items()
    }
    return GraphNetwork(Graph(graph.input, ends, operations), tensors)


def _resized(crops: Tensor, size_px: int) -> Tensor:
    return functional.interpolate(crops, size=(size_px, size_px), mode="bilinear", align_corners=False, antialias=True)


def _looked_up(crops: Tensor, grid: Tensor) -> Tensor:
    grid = grid.expand(len(crops), -1, -1, -1)
    return functional.grid_sample(crops, grid, mode="bilinear", padding_mode="border", align_corners=False)


# ---- networks of the VGG kind ---------------------------------------------------------------------------------------------


def _vgg(network: str, device: torch.device | str, file: str, sha256: str) -> Features:
    trained_on: Training = "faces" if network == "vggface" else "pictures"
    loaded = Vgg16(read_user_file(Path(file), sha256), trained_on) if file else load_network("vgg16")
    return loaded.eval().to(device)


def read_user_file(path: Path, sha256: str) -> dict[str, Tensor]:
    """The 13 convolutions of a VGG16 from a safetensors file: its four-dimensional tensors and their biases, in order of name.

    Names end in `.weight` and `.bias` (torchvision's `features.0.weight`, VGGFace's `conv1_1.weight`). Raises BadInput where
    the file is not there, has another sha256 or holds something else.
    """
    if not path.is_file():
        raise BadInput(f"perceptual_file: {path} is not there; perceptual_network=mesh needs no file")
    data = path.read_bytes()
    found = hashlib.sha256(data).hexdigest()
    if found != sha256.lower():
        raise BadInput(f"perceptual_sha256: expected {sha256 or 'the hash of the file'}, but {path} has {found}; not used")
    try:
        tensors = load_safetensors(data)
        names = sorted((name for name, each in tensors.items() if each.dim() == 4), key=_natural)
        return named_layers([tensors[name] for name in names], [tensors[_bias_of(name)] for name in names])
    except (SafetensorError, ValueError, KeyError) as error:
        raise BadInput(f"perceptual_file: {path} does not hold a VGG16 ({error})") from error


def _bias_of(name: str) -> str:
    return name.removesuffix("weight") + "bias"


def _natural(name: str) -> list[tuple[int, str]]:
    """So that `features.10` comes after `features.2`."""
    return [(int(part), "") if part.isdigit() else (0, part) for part in re.split(r"(\d+)", name)]
