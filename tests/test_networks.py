"""The networks have the shapes and sizes that their papers and predecessors say."""

import pytest
import torch

from understudy.model.networks import build_network, depth_to_space, num_parameters
from understudy.types import BadInput, TrainRecipe

ORIGINAL = TrainRecipe(architecture="original", resolution_px=64)


def test_the_original_has_the_parameters_of_2017() -> None:
    network = build_network(ORIGINAL, ["abel", "bea"])
    assert num_parameters(network.encoder) == 69_662_976
    assert num_parameters(network.decoders["abel"]) == 6_199_747
    assert num_parameters(network) == 82_062_470


def test_the_original_goes_through_eight_by_eight_by_512() -> None:
    network = build_network(ORIGINAL, ["abel"])
    with torch.inference_mode():
        features = network.encoder(torch.rand(1, 3, 64, 64))
        drawn = network.decoders["abel"](features)
    assert features.shape == (1, 512, 8, 8)
    assert drawn.shape == (1, 3, 64, 64)
    assert 0 <= drawn.min()
    assert drawn.max() <= 1


def test_the_original_pads_after_the_picture_as_keras_does() -> None:
    downscale = build_network(ORIGINAL, ["abel"]).encoder.convolutions[0]
    with torch.no_grad():
        downscale.convolution.weight.zero_()
        downscale.convolution.weight[:, :, 0, 0] = 1  # looks at the first row and column of its window only
        seen = downscale(torch.ones(1, 3, 64, 64))[0, 0]
    assert seen[0].abs().max() == 0, "the first window starts one pixel before the picture"
    assert seen[1:, 1:].min() > 0, "the padding of two stands behind the picture, out of this tap's reach"


def test_depth_to_space_has_the_place_in_the_block_as_its_major_index() -> None:
    # Two pixels wide, one channel, as TensorFlow's documentation has it: [1, 1, 4] -> [[1, 2], [3, 4]].
    assert depth_to_space(torch.tensor([1.0, 2, 3, 4]).view(1, 4, 1, 1)).tolist() == [[[[1, 2], [3, 4]]]]
    # With two channels the first two numbers are the two channels of the first place.
    two_channels = depth_to_space(torch.arange(8.0).view(1, 8, 1, 1))
    assert two_channels[0, :, 0, 0].tolist() == [0, 1]
    assert two_channels[0, :, 0, 1].tolist() == [2, 3]


@pytest.mark.parametrize("resolution_px", [64, 96, 128])
def test_quick_draws_a_picture_and_a_mask_at_its_own_size(resolution_px: int) -> None:
    network = build_network(TrainRecipe(resolution_px=resolution_px, width=0.5), ["abel", "bea", "cleo"])
    with torch.inference_mode():
        drawn = network(torch.rand(2, 3, resolution_px, resolution_px), "cleo")
    assert drawn.shape == (2, 4, resolution_px, resolution_px)


def test_quick_starts_without_a_checkerboard() -> None:
    torch.manual_seed(0)
    network = build_network(TrainRecipe(resolution_px=64), ["abel"])
    with torch.inference_mode():
        picture = network(torch.full((1, 3, 64, 64), 0.5), "abel")[0, :3]
    blocks = picture.view(3, 16, 4, 16, 4)
    assert blocks.std(dim=(2, 4)).max() < 1e-5, "the pixels of one shuffled block start equal"


def test_the_encoders_code_has_no_place_in_the_picture() -> None:
    """What the decoders see may depend on every input pixel only through `code_size` numbers."""
    encoder = build_network(TrainRecipe(code_size=7), ["abel"]).encoder
    assert encoder.to_code.out_features == encoder.from_code.in_features == 7


def test_sizes_that_do_not_fit_are_refused_in_words() -> None:
    with pytest.raises(BadInput, match="multiple of 16"):
        build_network(TrainRecipe(resolution_px=70), ["abel"])
    with pytest.raises(BadInput, match="architecture=quick"):
        build_network(TrainRecipe(architecture="original", resolution_px=128), ["abel"])


def test_a_decoder_learns_its_own_performer_only() -> None:
    network = build_network(TrainRecipe(resolution_px=64, width=0.25, code_size=16), ["abel", "bea"])
    before = {name: decoder.to_picture.weight.clone() for name, decoder in network.decoders.items()}
    network(torch.rand(2, 3, 64, 64), "abel").square().mean().backward()
    torch.optim.SGD(network.parameters(), 0.5).step()
    assert not torch.equal(network.decoders["abel"].to_picture.weight, before["abel"])
    assert torch.equal(network.decoders["bea"].to_picture.weight, before["bea"])
