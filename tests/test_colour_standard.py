"""What the encoder sees is free of skin tone, and what comes out has the performer's own."""

import pytest
import torch

from understudy.model.colour import COMMON_MEAN, COMMON_SPREAD, RIM_FRACTION, ColourStandard, measure_standard, without_rim
from understudy.types import BadInput


def crops(skin: tuple[int, int, int], num: int = 6) -> torch.Tensor:
    """(num, 5, 64, 64): an even skin with a light that differs from face to face, on a black background."""
    made = torch.zeros(num, 5, 64, 64)
    light = torch.linspace(0.8, 1.2, num)[:, None, None, None]
    made[:, :3, 12:52, 12:52] = torch.tensor(skin, dtype=torch.float32)[:, None, None] * light
    made[:, 3, 8:56, 8:56] = 255  # the mask reaches beyond the face, as a mesh's hull does
    return made.round().to(torch.uint8)


def test_the_rim_of_the_mask_does_not_darken_the_skin() -> None:
    standard = measure_standard(crops((200, 150, 120)))
    assert [255 * value for value in standard.mean] == pytest.approx([200, 150, 120], abs=2)


def test_two_skins_under_the_same_light_look_the_same_to_the_encoder() -> None:
    light, dark = crops((200, 150, 120)), crops((100, 70, 50))
    seen = [measure_standard(faces).apply(faces[:, :3].float() / 255)[:, :, 32, 32] for faces in (light, dark)]
    assert torch.allclose(seen[0], seen[1], atol=0.03)
    assert float(seen[0].mean()) == pytest.approx(COMMON_MEAN, abs=0.01)
    assert float(seen[0][:, 0].std(unbiased=False)) == pytest.approx(COMMON_SPREAD, rel=0.05), "the light is kept"


def test_a_standard_comes_back_from_json_and_a_damaged_one_is_refused() -> None:
    standard = measure_standard(crops((200, 150, 120)))
    assert ColourStandard.from_json(standard.as_json()) == standard  # type: ignore[arg-type]
    with pytest.raises(BadInput, match="mean and spread"):
        ColourStandard.from_json({"mean": [1, 2, 3]})


@pytest.mark.parametrize("size", [4, 18, 54, 162])
def test_a_mask_without_its_rim_is_the_least_of_the_square_around_each_pixel(size: int) -> None:
    mask = torch.rand((2, 1, size, size + 3), generator=torch.Generator().manual_seed(size))
    window = 2 * round((size + 3) * RIM_FRACTION) + 1
    square = torch.nn.functional.max_pool2d(-mask, window, stride=1, padding=window // 2)
    assert torch.equal(without_rim(mask), -square)
