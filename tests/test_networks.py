"""The networks have the shapes and sizes that their papers and predecessors say."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional

from understudy.model.cost import network_cost
from understudy.model.networks import begin_from, build_network, num_parameters
from understudy.model.networks_2017 import depth_to_space
from understudy.recipes import TRAIN_RECIPES, cinema, original, portrait, train_recipe
from understudy.settings import TrainRecipe
from understudy.types import BadInput

ORIGINAL = TrainRecipe(architecture="original", resolution_px=64, code_size=1024)


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


@pytest.mark.parametrize("sharing", ["separate", "identity-code", "two-inters"])
@pytest.mark.parametrize("architecture", ["quick", "deep"])
def test_a_fresh_network_already_draws_different_faces_differently(architecture: str, sharing: str) -> None:
    """By torch's own start two faces come out equal to three digits, and the first hundreds of steps only make up for it."""
    torch.manual_seed(0)
    recipe = TrainRecipe(architecture=architecture, sharing=sharing, resolution_px=64, width=0.5)
    network = build_network(recipe, ["abel", "bea"])
    faces = nn.functional.interpolate(0.5 + 0.18 * torch.randn(8, 3, 8, 8), size=(64, 64), mode="bilinear")
    with torch.inference_mode():
        drawn = network(faces, "bea")
    assert 0.003 < drawn.std(dim=0).mean() < 0.1


def test_the_encoders_code_has_no_place_in_the_picture() -> None:
    """What the decoders see may depend on every input pixel only through `code_size` numbers."""
    encoder = build_network(TrainRecipe(code_size=7), ["abel"]).encoder
    assert encoder.to_code.out_features == encoder.from_code.in_features == 7


def test_the_code_of_the_original_is_as_large_as_asked_for() -> None:
    encoder = build_network(replace(ORIGINAL, width=0.5, code_size=64), ["abel"]).encoder
    assert encoder.to_code.out_features == encoder.from_code.in_features == 32


@pytest.mark.parametrize("setting", [{"mask_weight": 0.2}, {"feature_emphasis": 3}, {"background_weight": 0.5}])
def test_a_setting_that_the_original_would_ignore_is_refused(setting: dict[str, float]) -> None:
    with pytest.raises(BadInput, match=f"setting {next(iter(setting))}: does nothing with architecture=original"):
        train_recipe("original", setting)
    assert train_recipe("original", {"background_weight": 1.0}) == train_recipe("original")
    assert train_recipe("original", {**setting, "architecture": "original-mask"})


def test_sizes_that_do_not_fit_are_refused_in_words() -> None:
    with pytest.raises(BadInput, match="multiple of 16"):
        build_network(TrainRecipe(resolution_px=70), ["abel"])
    with pytest.raises(BadInput, match="multiple of 16"):
        build_network(TrainRecipe(architecture="original", resolution_px=72), ["abel"])
    with pytest.raises(BadInput, match="multiple of 32"):
        build_network(TrainRecipe(architecture="deep", resolution_px=250), ["abel"])


def test_a_decoder_learns_its_own_performer_only() -> None:
    network = build_network(TrainRecipe(resolution_px=64, width=0.25, code_size=16), ["abel", "bea"])
    before = {name: decoder.to_picture.weight.clone() for name, decoder in network.decoders.items()}
    network(torch.rand(2, 3, 64, 64), "abel").square().mean().backward()
    torch.optim.SGD(network.parameters(), 0.5).step()
    assert not torch.equal(network.decoders["abel"].to_picture.weight, before["abel"])
    assert torch.equal(network.decoders["bea"].to_picture.weight, before["bea"])


# ---- variants and larger sizes --------------------------------------------------------------------------------------------

SMALL = TrainRecipe(resolution_px=32, width=0.125, code_size=8)
SHARINGS = ("separate", "identity-code", "two-inters")
PERFORMERS = ("abel", "bea", "cleo")


def test_the_original_with_a_mask_differs_from_it_in_its_last_layer_only() -> None:
    plain, masked = build_network(ORIGINAL, ["abel"]), build_network(replace(ORIGINAL, architecture="original-mask"), ["abel"])
    assert num_parameters(masked) - num_parameters(plain) == 64 * 25 + 1
    with torch.inference_mode():
        assert masked(torch.rand(1, 3, 64, 64), "abel").shape == (1, 4, 64, 64)


def test_what_two_faces_differ_by_comes_out_of_the_fresh_second_system_and_hardly_out_of_the_original() -> None:
    spreads = []
    for architecture in ("original", "original-mask"):
        torch.manual_seed(0)
        network = build_network(replace(ORIGINAL, architecture=architecture, width=0.25), ["abel"])
        with torch.inference_mode():
            drawn = network(torch.rand(8, 3, 64, 64), "abel")
        assert 0.4 < float(drawn.mean()) < 0.6, "the sigmoid starts in its steep part"
        spreads.append(float(drawn[:, :3].std(0).mean()))
    assert spreads[0] < 0.001
    assert spreads[1] > 20 * spreads[0]


def test_the_second_system_can_be_told_the_expression_and_the_original_cannot() -> None:
    told = replace(ORIGINAL, architecture="original-mask", is_expression_measured=True, width=0.125)
    network, untold = (build_network(each, ["abel"]) for each in (told, replace(told, is_expression_measured=False)))
    assert num_parameters(network) < num_parameters(untold), "what is told takes the place of what is read"
    faces, smile = torch.rand(2, 3, 64, 64), torch.randn(2, 9)
    with torch.inference_mode():
        codes = network.read(faces)
        assert torch.equal(network.draw(codes, "abel", smile), network(faces, "abel", smile))
        assert not torch.allclose(network.draw(codes, "abel", -smile), network(faces, "abel", smile))
    with pytest.raises(BadInput, match=r"code_size and width to leave more than the 9 told numbers, got 1024 and 0\.005"):
        build_network(replace(told, width=0.005), ["abel"])
    with pytest.raises(BadInput, match="the original reads all from the picture"):
        build_network(replace(told, architecture="original"), ["abel"])


def test_the_original_can_be_made_narrower_and_larger() -> None:
    network = build_network(replace(ORIGINAL, width=0.125, resolution_px=128), ["abel"])
    assert network.encoder.to_code.out_features == 128
    with torch.inference_mode():
        assert network(torch.rand(1, 3, 128, 128), "abel").shape == (1, 3, 128, 128)


@pytest.mark.parametrize("sharing", SHARINGS)
@pytest.mark.parametrize("architecture", ["quick", "deep", "pyramid"])
def test_every_variant_draws_each_of_three_performers_differently(architecture: str, sharing: str) -> None:
    torch.manual_seed(0)
    network = build_network(replace(SMALL, architecture=architecture, sharing=sharing), PERFORMERS)
    faces = torch.rand(2, 3, 32, 32)
    with torch.inference_mode():
        drawn = [network(faces, name) for name in PERFORMERS]
    assert all(each.shape == (2, 4, 32, 32) for each in drawn)
    assert not torch.allclose(drawn[0], drawn[1])
    assert not torch.allclose(drawn[1], drawn[2])


@pytest.mark.parametrize("sharing", SHARINGS)
def test_a_performers_loss_moves_what_is_its_own_and_what_is_shared_but_nobody_elses(sharing: str) -> None:
    network = build_network(replace(SMALL, sharing=sharing), PERFORMERS)
    network(torch.rand(2, 3, 32, 32), "bea").square().mean().backward()
    moved = {name for name, parameter in network.named_parameters() if parameter.grad is not None}
    taking_part = {id(parameter) for part in network.parts_for("bea") for parameter in part.parameters()}
    assert moved == {name for name, parameter in network.named_parameters() if id(parameter) in taking_part}
    assert not any(name.startswith(("decoders.abel", "decoders.cleo")) for name in moved)


def test_a_shared_decoder_costs_one_performer_more_a_hundredth_of_a_separate_one() -> None:
    def cost_of_a_third(sharing: str) -> int:
        recipe = replace(TrainRecipe(), sharing=sharing)
        return num_parameters(build_network(recipe, PERFORMERS)) - num_parameters(build_network(recipe, PERFORMERS[:2]))

    assert cost_of_a_third("identity-code") * 100 < cost_of_a_third("separate")


def test_a_variant_that_an_architecture_does_not_have_is_refused_in_words() -> None:
    with pytest.raises(BadInput, match="sharing=two-inters needs architecture=quick, pyramid or deep"):
        build_network(replace(ORIGINAL, sharing="two-inters"), ["abel"])


@pytest.mark.parametrize("resolution_px", [64, 128, 160, 192, 256, 512, 1024])
def test_the_deep_network_learns_at_any_resolution(resolution_px: int) -> None:
    network = build_network(replace(SMALL, architecture="deep", resolution_px=resolution_px), ["abel"])
    faces = torch.rand(1, 3, resolution_px, resolution_px)
    assert 6 <= network.encode(faces).shape[-1] < 12
    drawn = network(faces, "abel")
    assert drawn.shape == (1, 4, resolution_px, resolution_px)
    drawn.mean().backward()
    assert all(torch.isfinite(parameter.grad).all() for parameter in network.parameters())


@pytest.mark.parametrize(("resolution_px", "core_px"), [(96, 96), (160, 160), (192, 96), (256, 128), (384, 96), (512, 128)])
def test_a_pyramid_draws_a_small_picture_and_what_it_lacks_at_each_doubling(resolution_px: int, core_px: int) -> None:
    torch.manual_seed(0)
    network = build_network(replace(SMALL, architecture="pyramid", resolution_px=resolution_px), ["abel"])
    faces = torch.rand(1, 3, resolution_px, resolution_px)
    decoder = network.decoders["abel"]
    assert network.encoder.side == core_px // 16
    assert core_px << len(decoder.finer) == resolution_px
    drawn = network(faces, "abel")
    assert drawn.shape == (1, 4, resolution_px, resolution_px)
    drawn.square().mean().backward()
    assert all(finer.to_detail.weight.grad.abs().max() > 0 for finer in decoder.finer)


def test_a_pyramid_begins_as_the_small_network_whose_weights_it_takes() -> None:
    small = build_network(replace(SMALL, architecture="quick", resolution_px=96), ["abel"])
    large = build_network(replace(SMALL, architecture="pyramid", resolution_px=192), ["abel"])
    assert set(begin_from(large, small.state_dict())) == set(small.state_dict())
    faces = torch.rand(1, 3, 192, 192)
    with torch.inference_mode():
        drawn, smaller = large(faces, "abel"), small(functional.avg_pool2d(faces, 2), "abel")
    enlarged = functional.interpolate(smaller.logit(), scale_factor=2, mode="bilinear").sigmoid()
    torch.testing.assert_close(drawn, enlarged, atol=1e-4, rtol=0)


@pytest.mark.parametrize("architecture", ["quick", "original"])
def test_what_codes_innermost_features_of_another_size_is_resampled(architecture: str) -> None:
    torch.manual_seed(0)
    recipe = replace(SMALL, architecture=architecture, resolution_px=96)
    small, large = (build_network(replace(recipe, resolution_px=each), ["abel"]) for each in (96, 128))
    assert set(begin_from(large, small.state_dict())) == set(large.state_dict())
    with torch.inference_mode():
        faces = functional.interpolate(torch.rand(8, 3, 3, 3), size=(128, 128), mode="bicubic")  # smooth: alike at any size
        smaller = functional.interpolate(faces, size=(96, 96), mode="bilinear", antialias=True)
        codes, expected = large.encoder.read(faces), small.encoder.read(smaller)
    assert torch.corrcoef(torch.stack([codes.flatten(), expected.flatten()]))[0, 1] > 0.9


@pytest.mark.parametrize("sharing", SHARINGS)
def test_every_variant_of_a_pyramid_draws_detail(sharing: str) -> None:
    torch.manual_seed(0)
    network = build_network(replace(SMALL, architecture="pyramid", resolution_px=192, sharing=sharing), PERFORMERS)
    network(torch.rand(1, 3, 192, 192), "bea").square().mean().backward()
    moved = {name for name, parameter in network.named_parameters() if parameter.grad is not None and parameter.grad.any()}
    assert any("finer.0.to_detail" in name for name in moved)


def test_a_pyramid_of_an_odd_size_is_refused_in_words() -> None:
    with pytest.raises(BadInput, match="multiple of 32, got 208"):
        build_network(replace(SMALL, architecture="pyramid", resolution_px=208), ["abel"])


def test_the_deep_network_starts_without_a_checkerboard() -> None:
    torch.manual_seed(0)
    network = build_network(replace(SMALL, architecture="deep", resolution_px=64), ["abel"])
    with torch.inference_mode():
        picture = network(torch.full((1, 3, 64, 64), 0.5), "abel")[0, :3]
    assert picture.view(3, 32, 2, 32, 2).std(dim=(2, 4)).max() < 1e-5


def test_a_larger_network_begins_with_the_inner_layers_of_a_smaller_one() -> None:
    recipe = replace(SMALL, architecture="deep", resolution_px=128)
    torch.manual_seed(0)
    small = build_network(recipe, ["abel", "bea"])
    large = build_network(replace(recipe, resolution_px=256), ["abel", "bea"])
    before = {name: tensor.clone() for name, tensor in large.state_dict().items()}
    taken = set(begin_from(large, small.state_dict()))
    for name, tensor in large.state_dict().items():
        assert torch.equal(tensor, before[name]) == (name not in taken) or not before[name].any()
    assert {"encoder.to_code.weight", "encoder.from_code.weight", "decoders.bea.up.0.convolution.weight"} <= taken
    # The innermost features of both come out of the same last block.
    innermost = [list(network.encoder.down)[-1] for network in (small, large)]
    assert torch.equal(innermost[0].second.weight, innermost[1].second.weight)
    assert not any(name.startswith("encoder.stem") for name in taken)


def test_cinema_begins_with_a_portrait_of_its_width() -> None:
    slim = {"width": 0.125, "code_size": 16}
    large, small = build_network(replace(cinema(), **slim), ["abel"]), build_network(replace(portrait(), **slim), ["abel"])
    assert cinema().code_size == portrait().code_size
    taken = begin_from(large, small.state_dict())
    assert len(taken) > 0.8 * len(small.state_dict())


def test_a_performer_is_added_to_a_trained_network_without_touching_the_others() -> None:
    trained, wider = build_network(SMALL, ["abel", "bea"]), build_network(SMALL, PERFORMERS)
    fresh = wider.decoders["cleo"].to_picture.weight.clone()
    begin_from(wider, trained.state_dict())
    assert torch.equal(wider.decoders["cleo"].to_picture.weight, fresh)
    faces = torch.rand(1, 3, 32, 32)
    with torch.inference_mode():
        assert torch.equal(wider(faces, "bea"), trained(faces, "bea"))


@pytest.mark.parametrize("former", [0, 8])
def test_a_network_that_is_told_more_draws_at_first_as_the_one_it_began_from(former: int) -> None:
    recipe = replace(SMALL, code_size=16, is_expression_measured=True)
    trained = build_network(replace(recipe, is_expression_measured=former > 0), ["abel"], former)
    network = build_network(recipe, ["abel"])
    assert set(begin_from(network, trained.state_dict())) == set(network.state_dict())
    faces, told, read = torch.rand(2, 3, 32, 32), torch.randn(2, 9), trained.encoder.read
    with torch.inference_mode():
        codes = read(faces)
        torch.testing.assert_close(network.encoder.read(faces), codes[:, 9 - former :])
        codes[:, : 9 - former] = 0  # what gave way to what is told
        expected = trained.decode(trained.encoder.expand(codes, told[:, :former]), "abel")
        torch.testing.assert_close(network(faces, "abel", told), expected)


def test_the_cost_of_a_network_is_that_of_its_layers() -> None:
    cost = network_cost(original())
    assert cost.num_parameters == 82_062_470
    # Computed by hand from the layer table of 2017, in millions: four downscales, two linear layers, four upscales, the end.
    downs, linears, ups = 9.8304 + 3 * 209.7152, 2 * 16.777216, 4 * 301.989888
    assert cost.multiply_adds == pytest.approx(1e6 * (downs + linears + ups + 64 * 3 * 25 * 64 * 64 / 1e6))
    assert cost.features == (512, 8, 8)


def test_the_deep_networks_cost_less_for_a_pixel_the_more_pixels_they_draw() -> None:
    costs = [network_cost(replace(portrait(), resolution_px=size)).multiply_adds / size**2 for size in (128, 256, 512)]
    assert costs[0] > costs[1] > costs[2]


def test_the_table_of_the_documentation_has_the_recipes_figures() -> None:
    page = (Path(__file__).parent.parent / "docs" / "architecture.md").read_text()
    for name, recipe in TRAIN_RECIPES.items():
        cost = network_cost(recipe())
        inside, drawn = (" x ".join(map(str, shape)) for shape in (cost.features, cost.drawn))
        figures = f"{recipe().resolution_px} | {cost.num_parameters:,} | {cost.multiply_adds / 1e9:.2f}"
        row = f"| `{name}` | {figures} | {inside} | {drawn} |"
        assert row in page, f"docs/architecture.md lacks this row: {row}"
