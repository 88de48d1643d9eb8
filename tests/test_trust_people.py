"""Consent is personal: footage of one real person under the record of another is refused, with the distance."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from understudy.media import read_frames
from understudy.perception.survey import load_networks
from understudy.trust.consent import create_record, require
from understudy.trust.identity import MAX_DISTANCE
from understudy.types import FloatArray, Refused

FOOTAGE = Path(__file__).parents[2] / "shared" / "footage" / "people"
PEOPLE = {
    "man": ("A_potus44_train.mp4", range(0, 60, 10)),
    "woman": ("D_woman_emotions_pexels_360p.mp4", range(0, 60, 10)),
    "other": ("C_webcam_woman_nvidia_720p.mp4", range(0, 60, 10)),
}

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not FOOTAGE.is_dir(), reason="the clips of real people are not in the repository"),
]


@pytest.fixture(scope="module")
def faces() -> dict[str, FloatArray]:
    """(6, 128) embeddings of each person, by the networks that extraction uses."""
    networks = load_networks()
    found: dict[str, FloatArray] = {}
    for name, (clip, frames) in PEOPLE.items():
        pictures = [frame.image for frame in read_frames(FOOTAGE / clip, stop=frames.stop) if frame.index in frames]
        detected = [(picture, networks.detect(picture)) for picture in pictures]
        found[name] = np.stack(
            [networks.embed(picture, networks.landmarks(picture, each[0]).points) for picture, each in detected if each]
        )
        assert len(found[name]) >= 4
    return found


def test_other_frames_of_the_same_person_pass_and_every_other_person_is_refused_with_the_distance(
    faces: dict[str, FloatArray], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UNDERSTUDY_KEYS", str(tmp_path / "keys"))
    for name in faces:
        create_record(tmp_path / "consent", name, "signed")
    require({name: each[::2] for name, each in faces.items()}, "train", tmp_path / "consent")
    for name, each in faces.items():
        (reference,) = require({name: each[1::2]}, "train", tmp_path / "consent")
        assert reference.identity_distance is not None
        assert reference.identity_distance < MAX_DISTANCE
        for other in faces.keys() - {name}:
            for purpose in ("train", "convert"):
                with pytest.raises(
                    Refused, match=rf"{name}: 100% of the faces .* \(distance 0\.\d\d, expected at most"
                ) as refused:
                    require({name: faces[other]}, purpose, tmp_path / "consent")
                assert refused.value.exit_status == 3
