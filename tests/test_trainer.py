"""The step of training: what it computes does not depend on how it is cut up, shared or resumed."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

import killing
from understudy.model.augment import Batch
from understudy.model.colour import UNCHANGED, ColourStandard
from understudy.model.precision import working_type
from understudy.model.schedule import Moment, moment
from understudy.model.skin import skin_offsets
from understudy.model.trainer import Trainer
from understudy.recipes import train_recipe
from understudy.settings import TrainRecipe
from understudy.types import BadInput

sys.path.insert(0, str(Path(__file__).parents[1] / "tools"))
from record_original_training import GOLDEN, record


def test_the_first_steps_of_the_original_recipe_are_those_that_were_recorded() -> None:
    golden, now = json.loads(GOLDEN.read_text()), record()
    assert [list(losses) for losses in now["losses"]] == [["abel", "bea"]] * 3
    for losses, recorded in zip(now["losses"], golden["losses"], strict=True):
        assert losses == pytest.approx(recorded, rel=1e-6)
    # Adam moves a weight by the whole rate whichever way its gradient points, and one next to nought points the other way on
    # another processor: 4.5e-6 between an AMD EPYC and an Intel Xeon, whose losses agree to 2.8e-7.
    assert now["sums"] == pytest.approx(golden["sums"], rel=2e-5)


# ---- one step, cut up or shared -------------------------------------------------------------------------------------------

TINY = TrainRecipe(
    resolution_px=32, width=0.25, code_size=16, batch_size=6, warmup_steps=0, gradient_clip=0.5, precision="float32"
)
NAMES = ("abel", "bea")


def made_up(names: Sequence[str] = NAMES) -> dict[str, Tensor]:
    random = torch.Generator().manual_seed(3)
    return {name: torch.randint(0, 256, (24, 5, 54, 54), generator=random, dtype=torch.uint8) for name in names}


def tiny_trainer(recipe: TrainRecipe = TINY, names: Sequence[str] = NAMES, **more: object) -> Trainer:
    return Trainer(made_up(names), dict.fromkeys(names, UNCHANGED), recipe, 1.35, **more)


def train_three_steps(trainer: Trainer) -> tuple[list[dict[str, float]], dict[str, Tensor]]:
    losses = [dict(trainer.step(number / 3).losses) for number in range(3)]
    return losses, trainer.network.state_dict()


def assert_same_training(one: Trainer, other: Trainer) -> None:
    (losses, weights), (other_losses, other_weights) = train_three_steps(one), train_three_steps(other)
    for each, expected in zip(losses, other_losses, strict=True):
        assert each == pytest.approx(expected, rel=1e-4)
    for name, weight in weights.items():
        torch.testing.assert_close(
            weight, other_weights[name], rtol=0, atol=2e-4, msg=lambda text, name=name: f"{name}: {text}"
        )


def test_faces_are_drawn_as_often_as_their_share_says() -> None:
    faces = {name: torch.arange(4, dtype=torch.uint8).view(4, 1, 1, 1).expand(4, 5, 54, 54).contiguous() for name in NAMES}
    shares = {name: torch.tensor([0.7, 0.1, 0.1, 0.1]) for name in NAMES}
    recipe = replace(
        TINY, batch_size=400, balance_fraction=0.5, backdrop_probability=0.0, brightness_fraction=0.0, colour_fraction=0
    )
    trainer = Trainer(faces, dict.fromkeys(NAMES, UNCHANGED), recipe, 1.35, shares=shares)
    drawn = trainer._draw("abel", moment(recipe, 0, 0.0)).target[:, 0, 0, 0] * 255
    half_balanced_half_even = 0.5 * 0.7 + 0.5 * 0.25
    assert float((drawn.round() == 0).float().mean()) == pytest.approx(half_balanced_half_even, abs=0.08)


@pytest.fixture(params=[1, 2], ids=["one core", "two cores"])
def cores(request: pytest.FixtureRequest) -> Iterator[int]:
    """On two cores each performer's part of a step runs in a thread of its own."""
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


@pytest.mark.usefixtures("cores")
@pytest.mark.parametrize("takes_turns", [False, True])
def test_a_batch_that_goes_through_in_pieces_teaches_the_same(takes_turns: bool) -> None:
    recipe = replace(TINY, alternate_performers=takes_turns)
    whole, pieces = tiny_trainer(recipe), tiny_trainer(recipe)
    pieces.micro_batch = 4  # of six: a piece of four and one of two
    assert_same_training(pieces, whole)


@pytest.mark.usefixtures("cores")
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_the_same_steps_give_the_same_bits(precision: str) -> None:
    recipe = replace(TINY, precision=precision)
    (losses, weights), (losses_again, weights_again) = (train_three_steps(tiny_trainer(recipe)) for _ in range(2))
    assert losses == losses_again
    assert all(torch.equal(weight, weights_again[name]) for name, weight in weights.items())


def gpu_is_full() -> None:
    raise torch.OutOfMemoryError("no more than four faces of all performers at once")


def machine_is_full() -> None:
    torch.empty(10**13)


@pytest.mark.parametrize("exhaust", [gpu_is_full, machine_is_full])
def test_when_memory_runs_out_the_pieces_get_smaller_and_the_step_stays_the_same(
    cores: int, exhaust: Callable[[], None]
) -> None:
    short, plenty = tiny_trainer(), tiny_trainer()
    encode = short._encode

    def encode_at_most_four(faces: Tensor, expressions: Tensor | None = None) -> Tensor:
        if len(faces) > 4:
            exhaust()
        return encode(faces, expressions)

    short._encode = encode_at_most_four
    assert_same_training(short, plenty)
    assert short.micro_batch == {1: 1, 2: 3}[cores], "two performers in one encoder batch leave one each"
    with pytest.raises(BadInput, match="not even one face"):
        _step_where_nothing_fits(tiny_trainer(), exhaust)


def _step_where_nothing_fits(trainer: Trainer, exhaust: Callable[[], None]) -> None:
    trainer._encode = lambda *_: exhaust()
    trainer.step(0.0)


def test_an_error_that_is_not_for_want_of_memory_is_not_taken_for_one() -> None:
    trainer = tiny_trainer()
    trainer._encode = lambda faces, _: faces.view(7, -1)
    with pytest.raises(RuntimeError, match="is invalid for input"):
        trainer.step(0.0)


def _run_rank(rank: int, folder: Path, recipe: TrainRecipe) -> None:
    from torch import distributed

    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"file://{folder}/group", rank=rank, world_size=2)
    losses, weights = train_three_steps(tiny_trainer(recipe))
    save_file({name: weight.contiguous() for name, weight in weights.items()}, folder / f"rank{rank}.safetensors")
    (folder / f"rank{rank}.json").write_text(json.dumps(losses))
    distributed.destroy_process_group()


def test_two_processes_that_share_a_batch_learn_the_same_as_one(tmp_path: Path) -> None:
    recipe = replace(TINY, batch_size=5)  # three faces for one rank, two for the other
    processes = [killing.start(_run_rank, rank, tmp_path, recipe) for rank in range(2)]
    for process in processes:
        process.join(120)
        assert process.exitcode == 0
    ranks = [load_file(tmp_path / f"rank{rank}.safetensors") for rank in range(2)]
    losses, alone = train_three_steps(tiny_trainer(recipe))
    for name, weight in alone.items():
        assert torch.equal(ranks[0][name], ranks[1][name]), "the ranks stay together to the bit"
        # Sums in another order differ in the last bits; Adam divides by the gradient's own size and so enlarges that where the
        # gradient is next to nothing: up to a fifth of a step of the learning rate (1e-3) in three steps.
        torch.testing.assert_close(ranks[0][name], weight, rtol=0, atol=2e-4)
    for each, expected in zip(json.loads((tmp_path / "rank0.json").read_text()), losses, strict=True):
        assert each == pytest.approx(expected, rel=1e-4)


# ---- parts and precision --------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("cores")
def test_frozen_parts_keep_their_weights_and_the_rest_learns() -> None:
    trainer = tiny_trainer(frozen=("encoder", "abel"))
    before = {name: weight.clone() for name, weight in trainer.network.state_dict().items()}
    train_three_steps(trainer)
    changed = {
        name.split(".")[0] + "." + name.split(".")[1]
        for name, weight in trainer.network.state_dict().items()
        if not torch.equal(weight, before[name])
    }
    assert changed == {"decoders.bea"}


@pytest.mark.parametrize("sharing", ["identity-code", "two-inters"])
def test_a_performer_whom_a_shared_decoder_draws_cannot_be_frozen(sharing: str) -> None:
    recipe = replace(TINY, sharing=sharing, is_expression_measured=False)
    with pytest.raises(BadInput, match=f"--freeze abel: with sharing={sharing} one decoder draws all performers"):
        tiny_trainer(recipe, frozen=("abel",))
    trainer = tiny_trainer(recipe, frozen=("encoder",))
    assert not any(weight.requires_grad for weight in trainer.network.encoder.parameters())


def test_freezing_what_is_not_there_or_everything_is_refused() -> None:
    with pytest.raises(BadInput, match="--freeze cleo: expected encoder or a performer who is trained on: abel, bea"):
        tiny_trainer(frozen=("cleo",))
    with pytest.raises(BadInput, match="nothing is left to learn"):
        tiny_trainer(frozen=("encoder", "abel", "bea"))


@pytest.mark.usefixtures("cores")
def test_three_performers_are_trained_by_the_same_code() -> None:
    names = ("abel", "bea", "cleo")
    trainer = tiny_trainer(names=names)
    before = {name: weight.clone() for name, weight in trainer.network.state_dict().items()}
    losses, weights = train_three_steps(trainer)
    assert tuple(losses[0]) == names
    for name in names:
        assert not torch.equal(weights[f"decoders.{name}.to_picture.weight"], before[f"decoders.{name}.to_picture.weight"])
    assert set(skin_offsets(trainer)) == set(names)


def test_skin_is_shifted_by_what_a_swap_lacks_of_the_performers_mean_however_many_faces_go_through_at_once() -> None:
    standards = {"abel": ColourStandard((0.6, 0.5, 0.4), (0.2,) * 3), "bea": ColourStandard((0.3, 0.2, 0.1), (0.2,) * 3)}
    trainer = Trainer(made_up(), standards, TINY, 1.35)
    with torch.no_grad():
        for decoder in trainer.averaged.decoders.values():  # a grey of 0.5, all of it face
            decoder.to_picture.weight.zero_()
            decoder.to_picture.bias.zero_()
    whole = skin_offsets(trainer)
    assert whole["abel"]["bea"] == pytest.approx((-0.2, -0.3, -0.4), abs=1e-5)
    assert whole["bea"]["abel"] == pytest.approx((0.1, 0.0, -0.1), abs=1e-5)
    trainer.micro_batch = 5
    assert skin_offsets(trainer)["abel"]["bea"] == pytest.approx(whole["abel"]["bea"], abs=1e-6)


def test_what_only_a_gpu_can_do_is_refused_without_one() -> None:
    with pytest.raises(BadInput, match="precision=float16 needs a GPU"):
        tiny_trainer(replace(TINY, precision="float16"))
    with pytest.raises(BadInput, match="compile=cuda-graphs needs a GPU"):
        tiny_trainer(replace(TINY, compile="cuda-graphs"))


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float16])
def test_in_half_precision_weights_and_average_stay_float32_and_learn_nearly_the_same(kind: torch.dtype) -> None:
    half, whole = tiny_trainer(), tiny_trainer()
    half.working_type = kind  # a CPU computes float16 too, slowly
    half.loss_scale = 2.0**40 if kind is torch.float16 else 1.0
    losses, weights = train_three_steps(half)
    expected, _ = train_three_steps(whole)
    assert {weight.dtype for weight in (*weights.values(), *half.averaged.state_dict().values())} == {torch.float32}
    for each, other in zip(losses, expected, strict=True):
        assert each == pytest.approx(other, rel=0.02)
    if kind is torch.float16:
        assert half.loss_scale < 2.0**40, "a scale under which gradients overflow is halved until they do not"


@pytest.mark.parametrize(("has_them", "expected"), [(True, torch.bfloat16), (False, torch.float32)])
def test_a_processor_with_matrix_units_computes_in_bfloat16_and_any_other_in_float32(
    has_them: bool, expected: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"amx_bf16": has_them})
    device, left_to_it = torch.device("cpu"), replace(TINY, precision="auto")
    assert working_type(left_to_it, device) is expected
    assert {working_type(replace(TINY, precision=asked), device) for asked in ("float32", "bfloat16")} == {
        torch.float32,
        torch.bfloat16,
    }, "what is asked for is kept to"
    assert working_type(train_recipe("original"), device) is torch.float32


@pytest.mark.gpu
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch's compiler still uses what torch calls deprecated
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("how", ["off", "default", "cuda-graphs"])
def test_on_a_gpu_the_step_learns_in_half_precision_compiled_or_not(how: str) -> None:
    crops = {name: faces.cuda() for name, faces in made_up().items()}
    trainer = Trainer(crops, dict.fromkeys(NAMES, UNCHANGED), replace(TINY, compile=how), 1.35)
    first = trainer.step(0.0).losses["abel"]
    for number in range(30):
        last = trainer.step(number / 30)
    assert trainer.working_type is not torch.float32
    assert last.is_applied
    assert last.losses["abel"] < first


def test_a_loss_that_is_no_number_does_not_lower_the_scale_and_a_lowered_scale_rises_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    trainer = tiny_trainer()
    trainer.working_type, trainer.loss_scale = torch.float16, 2.0**10
    draw = Trainer._draw

    def poisoned(self: Trainer, performer: str, now: Moment) -> Batch:
        batch = draw(self, performer, now)
        batch.target[0] = torch.nan if now.step == 1 else batch.target[0]
        return batch

    monkeypatch.setattr(Trainer, "_draw", poisoned)
    monkeypatch.setattr("understudy.model.trainer.STEPS_TO_A_LARGER_SCALE", 4)
    scales = []
    for number in range(4):
        is_applied = trainer.step(number / 4).is_applied
        assert is_applied == (number != 1)
        scales.append(trainer.loss_scale)
    assert scales == [2.0**10, 2.0**10, 2.0**10, 2.0**11]
