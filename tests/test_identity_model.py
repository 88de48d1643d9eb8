"""The model that returns its input: exact, as deep as what it is given, and a real checkpoint on disk."""

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from understudy.model.folder import GALLERIES_FILE, people_in
from understudy.model.identity import IdentitySwapper, read_identity_model, write_identity_model
from understudy.model.swapper import load_swapper
from understudy.store.checkpoints import Checkpoint
from understudy.store.json_files import read_json, write_json
from understudy.types import BadInput

GALLERIES = {"abel": np.zeros((2, 128), np.float32), "bea": np.ones((2, 128), np.float32)}


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_it_returns_its_input_opaque_and_loses_nothing(dtype):
    random = np.random.default_rng(0)
    crops = (
        random.integers(0, 256, (2, 32, 32, 3)).astype(np.uint8) if dtype == np.uint8 else random.random((2, 32, 32, 3), dtype)
    )
    drawn = IdentitySwapper(GALLERIES, resolution_px=32).swap(crops, "abel", "bea")
    assert np.all(drawn[..., 3] == 1)
    back = np.rint(drawn[..., :3] * 255).astype(np.uint8) if dtype == np.uint8 else drawn[..., :3]
    assert np.array_equal(back, crops)


def test_its_folder_is_a_model_that_loads_like_any_other(tmp_path):
    swapper = load_swapper(write_identity_model(tmp_path / "model", GALLERIES, resolution_px=128))
    assert (swapper.performers, swapper.resolution_px, swapper.framing.name) == (("abel", "bea"), 128, "full")
    assert np.array_equal(swapper.galleries["bea"], GALLERIES["bea"])
    assert (swapper.checkpoint / "state.json").is_file()


def test_the_faces_that_consent_is_asked_for_cannot_be_exchanged_unseen(tmp_path):
    model = write_identity_model(tmp_path / "model", GALLERIES)
    save_file({"abel": GALLERIES["bea"], "bea": GALLERIES["abel"]}, model / GALLERIES_FILE)
    with pytest.raises(BadInput, match=r"galleries\.safetensors was changed since its checkpoint was saved"):
        load_swapper(model)


def test_a_checkpoint_of_before_it_was_bound_to_them_takes_what_lies_there(tmp_path):
    model = write_identity_model(tmp_path / "model", GALLERIES)
    state = model / "checkpoints/000001/state.json"
    write_json(state, {key: each for key, each in read_json(state).items() if key != "beside"})
    save_file({"abel": GALLERIES["bea"], "bea": GALLERIES["abel"]}, model / GALLERIES_FILE)
    assert load_swapper(model).performers == ("abel", "bea")


def test_a_damaged_one_is_named_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="is damaged: its recipe lacks resolution_px"):
        read_identity_model(Checkpoint(tmp_path, 1, {"recipe": {}}), {})


def test_a_model_whose_folder_forgot_whom_it_began_from_is_not_used(tmp_path: Path) -> None:
    model = write_identity_model(tmp_path / "model", GALLERIES)
    assert set(people_in(model, {"lineage": [{"performers": ["abel"]}, {"resumed_at_step": 3}]})) == {"abel", "bea"}
    with pytest.raises(BadInput, match="its weights hold carol"):
        people_in(model, {"lineage": [{"performers": ["abel", "carol"]}]})
