"""What a frozen face network sees is a measure of likeness that pictures can be improved by."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from understudy.imaging.framing import framing
from understudy.model.augment import Batch
from understudy.model.perceptual import perceptual_loss
from understudy.perception.features import NETWORKS, WEIGHTS_OF, face_features, read_user_file
from understudy.perception.vgg import Vgg16, layer_shapes, read_pickled_arrays
from understudy.types import BadInput


def edges(pictures: Tensor) -> list[Tensor]:
    """A stand-in with two maps: brightness, and how it changes to the right."""
    grey = pictures.mean(1, keepdim=True)
    return [torch.cat([grey, 1 - grey], 1), torch.cat([grey[..., 1:] - grey[..., :-1], 0.1 + 0 * grey[..., 1:]], 1)]


def batch(target: Tensor, face: Tensor | None = None) -> Batch:
    whole = torch.ones_like(target[:, :1])
    return Batch(target, target, whole if face is None else face, whole)


def test_a_picture_is_like_itself_and_the_surroundings_do_not_count() -> None:
    target, face = torch.rand(2, 3, 16, 16), torch.zeros(2, 1, 16, 16)
    face[:, :, 4:12, 4:12] = 1
    assert perceptual_loss(target, batch(target), edges) == 0
    other = torch.where(face > 0, target, torch.rand(2, 3, 16, 16))
    assert perceptual_loss(other, batch(target, face), edges) == 0
    assert perceptual_loss(other, batch(target), edges) > 0.001


def test_every_map_counts_the_same_whatever_its_scale() -> None:
    target, drawn = torch.rand(2, 3, 16, 16), torch.rand(2, 3, 16, 16)
    plain = perceptual_loss(drawn, batch(target), edges)
    scaled = perceptual_loss(drawn, batch(target), lambda pictures: [1000 * each for each in edges(pictures)])
    torch.testing.assert_close(scaled, plain, rtol=1e-2, atol=1e-4)


@pytest.mark.parametrize("name", ["core", "face", "full", "head"])
def test_the_mesh_network_sees_any_framing_in_five_stages(name: str) -> None:
    maps = face_features("mesh", framing(name))(torch.rand(2, 3, 64, 64))
    assert [each.shape[1] for each in maps] == [16, 32, 64, 128, 128]
    assert [each.shape[-1] / maps[0].shape[-1] for each in maps] == [1, 0.5, 0.25, 0.125, 0.0625]


@pytest.mark.parametrize("network", ["mesh", "iris", "mesh+iris"])
def test_descending_on_the_loss_brings_a_picture_nearer_to_its_target(network: str, face: Tensor) -> None:
    features, target = face_features(network, framing("full")), batch(face)
    drawn = torch.nn.functional.avg_pool2d(face, 9, 1, 4).requires_grad_()
    losses = []
    for _ in range(8):
        loss = perceptual_loss(drawn, target, features)
        (gradient,) = torch.autograd.grad(loss, drawn)
        drawn = (drawn - 0.005 * gradient.sign()).detach().requires_grad_()
        losses.append(loss.item())
    assert losses[-1] < 0.9 * losses[0]


@pytest.mark.parametrize("network", ["mesh", "iris", "mesh+iris"])
def test_a_blur_counts_far_more_than_another_exposure_of_the_same_size(network: str, face: Tensor) -> None:
    """What a mean of absolute differences cannot tell apart."""
    features, target = face_features(network, framing("full")), batch(face)
    blurred, brighter = torch.nn.functional.avg_pool2d(face, 5, 1, 2), (face * 1.05).clamp(0, 1)
    assert (blurred - face).abs().mean() < (brighter - face).abs().mean()
    assert perceptual_loss(blurred, target, features) > 30 * perceptual_loss(brighter, target, features)


@pytest.fixture(scope="module")
def face(sample: Path) -> Tensor:
    """A face of the sample in the framing `full`: (1, 3, 128, 128)."""
    from understudy.imaging.framing import crop_from_face
    from understudy.imaging.meanface import align_mesh
    from understudy.imaging.similarity import compose
    from understudy.imaging.warp import warp_image
    from understudy.media import read_frames
    from understudy.perception.detect import mediapipe_detector
    from understudy.perception.landmarks import mesh_landmarker

    image = next(read_frames(sample / "abel_test.mp4")).image
    (detection,) = mediapipe_detector()(image)
    alignment = align_mesh(mesh_landmarker()(image, detection).points[:, :2])
    crop = warp_image(image, compose(crop_from_face(framing("full"), 128), alignment), (128, 128))
    return torch.from_numpy(crop).permute(2, 0, 1)[None].float() / 255


def test_the_judge_of_identity_is_never_a_loss() -> None:
    used = {weight for weights in WEIGHTS_OF.values() for weight in weights}
    assert "face_identity" not in used
    assert set(NETWORKS) == {*WEIGHTS_OF, "vggface"}
    with pytest.raises(BadInput, match="expected one of mesh"):
        face_features("face_identity", framing("full"))


# ---- networks of the VGG kind ---------------------------------------------------------------------------------------------


def random_layers(scale: float = 0.05) -> tuple[list[Tensor], list[Tensor]]:
    random = torch.Generator().manual_seed(0)
    kernels = [scale * torch.randn(shape, generator=random) for shape in layer_shapes()]
    return kernels, [torch.randn(shape[0], generator=random) * 0.1 for shape in layer_shapes()]


@pytest.fixture(scope="module")
def user_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights as torchvision names them: `features.0.weight` to `features.28.bias`, with a classifier that is not needed."""
    numbers = (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)
    tensors = {"classifier.0.weight": torch.zeros(2, 2), "classifier.0.bias": torch.zeros(2)}
    for number, kernel, bias in zip(numbers, *random_layers(), strict=True):
        tensors |= {f"features.{number}.weight": kernel, f"features.{number}.bias": bias}
    path = tmp_path_factory.mktemp("vgg") / "vgg.safetensors"
    save_file(tensors, path)
    return path


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_file_of_the_users_own_is_read_in_the_order_of_its_layers(user_file: Path) -> None:
    tensors = read_user_file(user_file, sha256(user_file))
    kernels, biases = random_layers()
    assert all(torch.equal(tensors[f"kernel_{n}"], kernel) for n, kernel in enumerate(kernels))
    assert all(torch.equal(tensors[f"bias_{n}"], bias) for n, bias in enumerate(biases))
    maps = face_features("vggface", framing("full"), file=str(user_file), sha256=sha256(user_file))(torch.rand(1, 3, 32, 32))
    assert [tuple(each.shape[1:]) for each in maps] == [(64, 32, 32), (128, 16, 16), (256, 8, 8), (512, 4, 4), (512, 2, 2)]


def test_vggface_takes_blue_first_in_levels_of_255() -> None:
    kernels, biases = random_layers()
    tensors = {f"kernel_{n}": each for n, each in enumerate(kernels)} | {f"bias_{n}": each for n, each in enumerate(biases)}
    picture = torch.rand(1, 3, 16, 16)
    means = torch.tensor([93.5940, 104.7624, 129.1863]).view(3, 1, 1)  # blue, green, red, as its authors give them
    first = torch.relu(torch.nn.functional.conv2d(picture.flip(1) * 255 - means, kernels[0], biases[0], padding=1))
    expected = torch.relu(torch.nn.functional.conv2d(first, kernels[1], biases[1], padding=1))
    torch.testing.assert_close(Vgg16(tensors, "faces")(picture)[0], expected, rtol=1e-4, atol=1e-3)


def test_pickled_arrays_are_read_without_being_unpickled() -> None:
    import pickle

    kernels, biases = random_layers()

    class Trap:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return pytest.fail, ("the file was unpickled",)

    layers = {
        f"Conv_{n}": {"kernel": np.ascontiguousarray(kernel.permute(2, 3, 1, 0).numpy()), "bias": bias.numpy()}
        for n, (kernel, bias) in enumerate(zip(kernels, biases, strict=True))
    }
    arrays = read_pickled_arrays(pickle.dumps({"VGG16_0": layers, "trap": Trap()}, protocol=3))
    assert all(np.array_equal(arrays[f"kernel_{n}"], kernel.numpy()) for n, kernel in enumerate(kernels))
    with pytest.raises(ValueError, match="expected layer 0 of VGG16"):
        read_pickled_arrays(pickle.dumps({"other": np.zeros(1000, np.float32)}, protocol=3))


def test_a_users_file_that_is_missing_changed_or_something_else_is_one_line(user_file: Path, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"nowhere\.safetensors is not there; perceptual_network=mesh needs no file"):
        read_user_file(tmp_path / "nowhere.safetensors", "0" * 64)
    with pytest.raises(BadInput, match=f"has {sha256(user_file)}; not used"):
        read_user_file(user_file, "0" * 64)
    other = tmp_path / "other.safetensors"
    save_file({"layer.weight": torch.zeros(4, 3, 3, 3), "layer.bias": torch.zeros(4)}, other)
    with pytest.raises(BadInput, match="does not hold a VGG16"):
        read_user_file(other, sha256(other))
    with pytest.raises(BadInput, match="weights of your own"):
        face_features("vggface", framing("full"))
    with pytest.raises(BadInput, match="perceptual_file goes with"):
        face_features("mesh", framing("full"), file=str(user_file))
