"""What others see: c2pa's own reader accepts clips and stills, calls the local certificate unknown, and trusts a given list."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import c2pa
import pytest

from understudy.media import VideoWriter, read_frames, read_image, write_jpeg, write_png
from understudy.trust.credentials import LINEAGE_LABEL, Lineage, read_credentials
from understudy.trust.finish import finish_output, output_marker
from understudy.trust.keys import SECRET_FILE

pytestmark = pytest.mark.slow  # real codecs and signatures

LINEAGE = Lineage({"plate": "11" * 32, "model": "22" * 32, "faces abel": "33" * 32}, ("44" * 32, "55" * 32), "66" * 32, seed=7)
SOURCE_TYPE = "http://cv.iptc.org/newscodes/digitalsourcetype/compositeWithTrainedAlgorithmicMedia"


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("keys")


@pytest.fixture(params=[".mp4", ".png", ".jpg"])
def finished(request: pytest.FixtureRequest, sample: Path, keys: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A marked, labelled and signed clip or still."""
    monkeypatch.setenv("UNDERSTUDY_KEYS", str(keys))
    plate, path = sample / "abel_test.mp4", tmp_path / f"swap{request.param}"
    marker, frames = output_marker(LINEAGE, 512, 512), list(read_frames(plate, stop=3))
    if request.param == ".mp4":
        with VideoWriter(path, plate=plate) as writer:
            for frame in frames:
                writer.write(marker.mark(frame.image), frame)
    else:
        write: Callable[..., None] = {".png": write_png, ".jpg": write_jpeg}[request.param]
        write(path, marker.mark(frames[0].image))
    finish_output(path, LINEAGE, plate)
    return path


def read(path: Path, anchors: str = "") -> tuple[str, dict[str, object], list[str]]:
    """The state, the active manifest and the failure codes that the reference reader gives."""
    settings = {"trust": {"trust_anchors": anchors}} if anchors else {"verify": {"verify_trust": True}}
    with c2pa.Reader(path, context=c2pa.Context.from_dict(settings)) as reader:
        report = json.loads(reader.json())
        failures = report.get("validation_results", {}).get("activeManifest", {}).get("failure", [])
        return (
            reader.get_validation_state(),
            report["manifests"][report["active_manifest"]],
            [each["code"] for each in failures],
        )


def test_the_reference_reader_finds_it_valid_and_only_the_signer_unknown(finished: Path) -> None:
    state, manifest, failures = read(finished)
    assert (state, failures) == ("Valid", ["signingCredential.untrusted"])
    assertions = {each["label"]: each["data"] for each in manifest["assertions"]}
    edited = next(each for each in assertions["c2pa.actions.v2"]["actions"] if each["action"] == "c2pa.edited")
    assert edited["digitalSourceType"] == SOURCE_TYPE
    assert assertions[LINEAGE_LABEL]["inputs_sha256"] == dict(LINEAGE.inputs)
    assert assertions[LINEAGE_LABEL]["consent_records_sha256"] == list(LINEAGE.consent)
    assert manifest["ingredients"]


def test_a_trust_list_with_our_root_makes_it_trusted(finished: Path, keys: Path) -> None:
    state, _, failures = read(finished, (keys / "credentials" / "root.pem").read_text())
    assert (state, failures) == ("Trusted", [])


def test_one_changed_byte_of_the_picture_or_of_the_manifest_is_reported(finished: Path, tmp_path: Path) -> None:
    data = finished.read_bytes()
    record = data.index(b"consent_records_sha256") + 30
    word = {".mp4": b"mdat", ".png": b"IDAT", ".jpg": b"\xff\xda"}[finished.suffix]
    picture = data.rindex(word) + 400
    for position in (record, picture):
        changed = bytearray(data)
        changed[position] ^= 1
        path = tmp_path / f"changed{finished.suffix}"
        path.write_bytes(changed)
        assert read_credentials(path).state == "broken", position
        assert read(path)[0] == "Invalid", position


def test_a_still_that_is_saved_again_loses_its_credentials_and_says_so(finished: Path, tmp_path: Path) -> None:
    if finished.suffix == ".mp4":
        pytest.skip("clips are in test_trust_verify.py")
    path = tmp_path / "again.png"
    write_png(path, read_image(finished))
    assert read_credentials(path).state == "absent"


def test_no_secret_is_in_what_leaves_the_machine(finished: Path, keys: Path, tmp_path: Path) -> None:
    secrets = []
    for file in (keys / "credentials" / "key.pem", keys / SECRET_FILE):
        if file.is_file():
            secrets += [line for line in file.read_text().splitlines() if line and not line.startswith("-")]
    assert secrets
    shutil.copy(finished, tmp_path / "copy")
    for path in tmp_path.rglob("*"):
        if path.is_file():
            data = path.read_bytes()
            assert not any(secret.encode() in data for secret in secrets), path
            assert str(keys).encode() not in data, path
            assert b"abel_test" not in data, path  # no paths or names of files, only hashes
