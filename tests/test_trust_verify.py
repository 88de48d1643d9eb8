"""Credentials, labels and `verify`: what is signed is recognised, every change is seen, a foreign file is never called ours."""

from __future__ import annotations

import datetime
import json
import os
import random
import shutil
import stat
import xml.dom.minidom
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import c2pa
import numpy as np
import pytest
from cryptography import x509
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from understudy.media import VideoWriter, probe, read_frames, read_image, write_jpeg, write_png
from understudy.trust import certificates, label, renders
from understudy.trust.credentials import LINEAGE_LABEL, Lineage, read_credentials, sidecar_path
from understudy.trust.finish import finish_output, output_marker
from understudy.trust.verify import inspect, verify
from understudy.trust.xmp import add_xmp, read_xmp
from understudy.types import BadInput

pytestmark = pytest.mark.slow  # real networks, codecs and clips

LINEAGE = Lineage({"plate": "ab" * 32, "model": "cd" * 32, "faces bea": "ef" * 32}, ("12" * 32, "34" * 32), "56" * 32, seed=0)


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("keys")


@pytest.fixture(autouse=True)
def own_keys(keys: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UNDERSTUDY_KEYS", str(keys))


@pytest.fixture(scope="module")
def plate(sample: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Half a second of a virtual actor as an mp4 file."""
    path = tmp_path_factory.mktemp("plate") / "plate.mp4"
    with VideoWriter(path, plate=sample / "abel_test.mp4") as writer:
        for frame in read_frames(sample / "abel_test.mp4", stop=12):
            writer.write(frame.image, frame)
    return path


@pytest.fixture(scope="module")
def finished(plate: Path, keys: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The plate marked, labelled and signed."""
    path = tmp_path_factory.mktemp("swap") / "swap.mp4"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("UNDERSTUDY_KEYS", str(keys))
        write_marked(path, plate)
        finish_output(path, LINEAGE, plate)
    return path


def write_marked(path: Path, plate: Path) -> None:
    info = probe(plate)
    marker = output_marker(LINEAGE, info.width, info.height)
    with VideoWriter(path, plate=plate, metadata=label.metadata()) as writer:
        for frame in read_frames(plate):
            writer.write(marker.mark(frame.image), frame)


def changed_at(path: Path, position: int, copy: Path) -> Path:
    data = bytearray(path.read_bytes())
    data[position] ^= 1
    copy.write_bytes(data)
    return copy


# ---- what a finished output says ------------------------------------------------------------------------------------------


def test_a_finished_clip_is_recognised_as_ours_in_every_way(finished: Path) -> None:
    verdict = verify(finished)
    assert (verdict.credentials, verdict.watermark, verdict.made_by_understudy) == ("valid", "present", "true")
    assert verdict.watermark_id == LINEAGE.watermark_id
    assert verdict.labels == ("xmp", "comment")
    assert verdict.lineage["inputs_sha256"] == LINEAGE.inputs
    assert verdict.lineage["consent_records_sha256"] == list(LINEAGE.consent)
    assert json.loads(json.dumps(verdict.as_json()))["watermark"] == "present"
    assert [words.split(":")[0] for words in verdict.words][:2] == ["Content credentials", "Watermark"]


def test_the_picture_and_the_number_of_frames_survive_finishing(finished: Path, plate: Path) -> None:
    pairs = list(zip(read_frames(finished), read_frames(plate), strict=True))
    assert len(pairs) == 12
    assert all(np.abs(a.image.astype(int) - b.image).mean() < 3 for a, b in pairs)


def test_the_reference_reader_accepts_the_manifest_and_finds_what_the_law_asks_for(finished: Path) -> None:
    with c2pa.Reader(finished) as reader:
        report = json.loads(reader.json())
        assert reader.get_validation_state() == "Valid"  # our root is on nobody's list
    manifest = report["manifests"][report["active_manifest"]]
    assertions = {item["label"]: item["data"] for item in manifest["assertions"]}
    actions = {action["action"]: action for action in assertions["c2pa.actions.v2"]["actions"]}
    assert actions["c2pa.edited"]["digitalSourceType"] == label.DIGITAL_SOURCE_TYPE
    assert "c2pa.watermarked.bound" in actions
    assert {item["relationship"] for item in manifest["ingredients"]} == {"parentOf", "inputTo"}
    assert f"sha256:{'ab' * 32}" in {item["instance_id"] for item in manifest["ingredients"]}
    assert assertions[LINEAGE_LABEL]["watermark_id"] == LINEAGE.watermark_id


def test_on_another_machine_the_signer_is_unknown_until_its_root_is_trusted(
    finished: Path, keys: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UNDERSTUDY_KEYS", str(tmp_path))
    assert read_credentials(finished).state == "untrusted"
    assert inspect(finished).made_by_understudy == "true"  # by its watermark
    (tmp_path / "anchors").mkdir()
    shutil.copy(keys / "credentials" / "root.pem", tmp_path / "anchors" / "colleague.pem")
    assert read_credentials(finished).state == "valid"
    assert not (tmp_path / "credentials").exists()  # looking at a file makes no keys


@pytest.mark.parametrize("num_bytes", [0, 300])
def test_a_trusted_certificate_that_is_none_is_named_and_no_file_is_called_broken_for_it(
    num_bytes: int, finished: Path, keys: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UNDERSTUDY_KEYS", str(tmp_path))
    (tmp_path / "anchors").mkdir()
    (tmp_path / "anchors" / "cut.pem").write_bytes((keys / "credentials" / "root.pem").read_bytes()[:num_bytes])
    with pytest.raises(BadInput, match=r"cut\.pem: expected certificates in PEM form"):
        verify(finished)


def test_a_messengers_re_encode_strips_the_credentials_but_not_the_mark(finished: Path, tmp_path: Path) -> None:
    path = tmp_path / "forwarded.mp4"
    with av.open(str(path), "w") as output:
        stream = output.add_stream("libx264", rate=Fraction(25), options={"crf": "26", "preset": "veryfast"})
        stream.width, stream.height, stream.pix_fmt = 480, 480, "yuv420p"
        for frame in read_frames(finished):
            output.mux(stream.encode(av.VideoFrame.from_ndarray(frame.image, format="rgb24").reformat(480, 480)))
        output.mux(stream.encode(None))
    verdict = verify(path)
    assert (verdict.credentials, verdict.watermark, verdict.made_by_understudy) == ("absent", "present", "true")
    assert verdict.render["name"] == "swap.mp4"  # the list of renders gives the lineage back
    assert any("list of renders" in words for words in verdict.words)


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_a_still_is_labelled_signed_and_recognised(plate: Path, tmp_path: Path, suffix: str) -> None:
    picture = next(iter(read_frames(plate))).image
    path = tmp_path / f"still{suffix}"
    {".png": write_png, ".jpg": write_jpeg}[suffix](path, output_marker(LINEAGE, 512, 512).mark(picture))
    before = read_image(path)
    finish_output(path, LINEAGE, plate)
    verdict = inspect(path)
    assert (verdict.credentials, verdict.watermark, verdict.labels) == ("valid", "present", ("xmp",))
    assert np.array_equal(read_image(path), before)


def test_a_container_that_holds_no_credentials_gets_a_sidecar(plate: Path, tmp_path: Path) -> None:
    path = tmp_path / "swap.mkv"
    write_marked(path, plate)
    figures = finish_output(path, LINEAGE, plate)
    assert figures["credentials"] == "sidecar"
    assert read_credentials(path).state == "valid"
    changed_at(path, path.stat().st_size // 2, path)
    assert read_credentials(path).state == "broken"
    sidecar_path(path).unlink()
    assert read_credentials(path).state == "absent"


def test_a_folder_of_frames_is_signed_as_a_whole(plate: Path, tmp_path: Path) -> None:
    folder = tmp_path / "frames"
    marker = output_marker(LINEAGE, 512, 512)
    for frame in read_frames(plate, stop=3):
        write_png(folder / f"{frame.index:04d}.png", marker.mark(frame.image))
    finish_output(folder, LINEAGE, plate)
    assert (inspect(folder).credentials, inspect(folder).watermark) == ("valid", "present")
    shutil.copy(folder / "0000.png", folder / "0001.png")
    assert inspect(folder).problem == "a frame was changed, added or taken away"
    assert inspect(folder).credentials == "broken"


@pytest.mark.parametrize("kind", [".bmp", ".webp", ".exr"])
def test_a_picture_of_another_kind_among_signed_frames_is_seen(kind: str, plate: Path, tmp_path: Path) -> None:
    folder = tmp_path / "frames"
    write_png(folder / "0000.png", next(iter(read_frames(plate))).image)
    finish_output(folder, LINEAGE, plate)
    assert read_credentials(folder).state == "valid"
    shutil.copy(folder / "0000.png", folder / f"0001{kind}")
    assert read_credentials(folder).state == "broken"


def test_frames_whose_credentials_were_left_behind_still_say_what_they_are(plate: Path, tmp_path: Path) -> None:
    folder = tmp_path / "frames"
    write_png(folder / "0000.png", next(iter(read_frames(plate))).image)
    finish_output(folder, LINEAGE, plate)
    for credentials in folder.glob("*.sha256*"):
        credentials.unlink()
    verdict = inspect(folder)
    assert (verdict.credentials, verdict.labels, verdict.made_by_understudy) == ("absent", ("xmp",), "unknown")


# ---- changes --------------------------------------------------------------------------------------------------------------


def test_one_changed_byte_in_picture_sound_index_or_label_breaks_the_credentials(finished: Path, tmp_path: Path) -> None:
    draw, data = random.Random(0), finished.read_bytes()
    covered = range(data.index(b"moov") - 4, len(data))
    for position in [covered[0], covered[-1], *(draw.choice(covered) for _ in range(40))]:
        if data[position - 8 : position + 8].find(b"free") < 0:  # the standard leaves empty space out
            assert read_credentials(changed_at(finished, position, tmp_path / "changed.mp4")).state == "broken", position


def test_one_changed_byte_of_the_manifest_is_reported(finished: Path, tmp_path: Path) -> None:
    data, copy = finished.read_bytes(), tmp_path / "changed.mp4"
    for word in (b"consent_records_sha256", LINEAGE.watermark_id.encode(), b"c2pa.edited", b"compositeWith", b"Understudy"):
        assert read_credentials(changed_at(finished, data.index(word) + 1, copy)).state == "broken", word
    padding = data.index(b"\0" * 400) + 100  # no reader reads it, no signature covers it; our own list of renders does
    verdict = inspect(changed_at(finished, padding, copy))
    assert verdict.is_byte_identical is False
    assert inspect(finished).is_byte_identical is True


def test_a_changed_clip_is_reported_in_words(finished: Path, tmp_path: Path) -> None:
    copy = changed_at(finished, finished.stat().st_size * 3 // 4, tmp_path / "changed.mp4")
    verdict = inspect(copy)
    assert verdict.credentials == "broken"
    assert "changed after signing" in verdict.words[0]


def test_signing_again_keeps_the_credentials_of_the_plate(finished: Path, tmp_path: Path) -> None:
    path = tmp_path / "again.mp4"
    shutil.copy(finished, path)
    finish_output(path, replace(LINEAGE, seed=1), finished)
    with c2pa.Reader(path) as reader:
        assert len(json.loads(reader.json())["manifests"]) == 2


def make_odd_plate(kind: str, finished: Path, plate: Path, path: Path) -> None:
    """A plate that can be decoded, and that c2pa cannot read."""
    data = bytearray(finished.read_bytes())
    if kind == "more after its end":
        path.write_bytes(bytes(data) + b"\xff" * 100)
    elif kind == "damaged credentials":
        place = data.index(b"c2pa.edited")
        data[place - 200 : place + 300] = b"\xff" * 500
        path.write_bytes(data)
    else:
        write_marked(path.with_suffix(".mkv"), plate)
        path.with_suffix(".mkv").rename(path)


@pytest.mark.parametrize("kind", ["more after its end", "damaged credentials", "another container"])
def test_an_output_is_signed_whatever_its_plate_looks_like_to_c2pa(
    kind: str, finished: Path, plate: Path, tmp_path: Path
) -> None:
    odd, path = tmp_path / "odd.mp4", tmp_path / "swap.mp4"
    make_odd_plate(kind, finished, plate, odd)
    assert probe(odd).width == probe(plate).width
    write_marked(path, plate)
    finish_output(path, LINEAGE, odd)
    assert read_credentials(path).state == "valid"
    assert read_credentials(path).lineage["inputs_sha256"] == LINEAGE.inputs


# ---- foreign files --------------------------------------------------------------------------------------------------------


def test_a_foreign_clip_is_not_called_ours_and_the_words_do_not_call_it_genuine(plate: Path) -> None:
    verdict = verify(plate)
    assert (verdict.credentials, verdict.watermark, verdict.made_by_understudy) == ("absent", "absent", "false")
    assert any("no proof" in words for words in verdict.words)


def test_our_name_in_somebody_elses_signature_is_not_enough(
    plate: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "forged.mp4"
    shutil.copy(plate, path)
    monkeypatch.setenv("UNDERSTUDY_KEYS", str(tmp_path / "somebody else"))
    finish_output(path, LINEAGE, plate)
    monkeypatch.setenv("UNDERSTUDY_KEYS", str(tmp_path / "me"))
    verdict = inspect(path)
    assert (verdict.credentials, verdict.watermark, verdict.made_by_understudy) == ("untrusted", "absent", "unknown")


def test_what_is_neither_file_nor_folder_is_bad_input_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.mp4")
    with pytest.raises(BadInput, match=r"pipe\.mp4: is neither a file nor a folder"):
        verify(tmp_path / "pipe.mp4")
    for name in ("a" * 300, "nothere.mp4", "null\0.mp4"):
        with pytest.raises(BadInput, match="no such file or folder"):
            verify(tmp_path / name)


@pytest.mark.parametrize("content", [b"", b"hello", b"#EXTM3U\nfile:///etc/passwd\n", b"\0\0\0\x20ftypisom" + b"\0" * 40])
def test_what_is_no_picture_and_no_video_is_bad_input_in_one_line(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "clip.mp4"
    path.write_bytes(content)
    with pytest.raises(BadInput) as raised:
        verify(path)
    assert "\n" not in str(raised.value)
    assert "clip.mp4" in str(raised.value)
    with pytest.raises(BadInput, match="no such file"):
        verify(tmp_path / "nothing.mp4")


# ---- labels ---------------------------------------------------------------------------------------------------------------


def test_the_xmp_packet_is_well_formed_and_holds_any_title() -> None:
    packet = label.xmp_packet('Bea\'s "swap" <&>', "0123456789ab")
    parsed = xml.dom.minidom.parseString(packet.encode())
    description = parsed.getElementsByTagName("rdf:Description")[0]
    assert description.getAttribute("Iptc4xmpExt:DigitalSourceType") == label.DIGITAL_SOURCE_TYPE
    assert json.loads(description.getAttribute("TC260:AIGC"))["ProduceID"] == "0123456789ab"


def test_the_comment_says_it_in_words_that_survive_a_remux(finished: Path) -> None:
    with av.open(str(finished)) as container:
        assert container.metadata["comment"].startswith("AI-manipulated")


def test_xmp_goes_into_no_file_that_was_cut_off(finished: Path, tmp_path: Path) -> None:
    path = tmp_path / "cut.mp4"
    path.write_bytes(finished.read_bytes()[:-100])
    with pytest.raises(BadInput, match="cut off"):
        add_xmp(path, label.xmp_packet())


HEADS = st.sampled_from([b"", b"\0\0\0\x18ftypmp42", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xe1", b"\0\0\0\x01uuid"])


@given(head=HEADS, rest=st.binary(max_size=200))
@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_bytes_make_the_readers_fail(tmp_path: Path, head: bytes, rest: bytes) -> None:
    path = tmp_path / "any.mp4"
    path.write_bytes(head + rest)
    assert read_xmp(path) is None or isinstance(read_xmp(path), str)
    assert read_credentials(path).state in ("absent", "broken")


# ---- keys -----------------------------------------------------------------------------------------------------------------


def test_the_key_of_the_certificate_is_readable_by_its_owner_only_and_the_certificate_names_nobody(tmp_path: Path) -> None:
    chain = certificates.signing_chain(tmp_path)
    assert stat.S_IMODE((tmp_path / "credentials" / "key.pem").stat().st_mode) == 0o600
    assert "PRIVATE" not in repr(chain)
    assert certificates.signing_chain(tmp_path) == chain
    leaf = x509.load_pem_x509_certificates(chain.chain_pem)[0]
    assert leaf.subject.rfc4514_string().startswith("CN=Understudy installation ")


def test_a_key_that_does_not_fit_its_certificate_is_bad_input(tmp_path: Path) -> None:
    certificates.signing_chain(tmp_path / "a")
    certificates.signing_chain(tmp_path / "b")
    shutil.copy(tmp_path / "a" / "credentials" / "key.pem", tmp_path / "b" / "credentials" / "key.pem")
    with pytest.raises(BadInput, match="not the key of the first certificate"):
        certificates.signing_chain(tmp_path / "b")


def test_an_ended_certificate_is_bad_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(certificates, "LIFETIME", datetime.timedelta(seconds=-1))
    with pytest.raises(BadInput, match="the certificate ended"):
        certificates.signing_chain(tmp_path)


def test_a_certificate_that_has_not_begun_is_bad_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begins = x509.CertificateBuilder.not_valid_before
    later = datetime.timedelta(days=2)  # made while the clock was ahead
    monkeypatch.setattr(x509.CertificateBuilder, "not_valid_before", lambda builder, time: begins(builder, time + later))
    with pytest.raises(BadInput, match=r"the certificate begins on .* set the clock right"):
        certificates.signing_chain(tmp_path)


def test_the_list_of_renders_survives_a_torn_line(tmp_path: Path) -> None:
    renders.remember_render(LINEAGE, "a.mp4", "00", tmp_path)
    with (tmp_path / renders.RENDERS_FILE).open("ab") as file:
        file.write(b'{"watermark_id": "torn')
    renders.remember_render(LINEAGE, "b.mp4", "11", tmp_path)
    found = renders.find_render(LINEAGE.watermark_id, folder=tmp_path)
    assert found is not None
    assert found["name"] == "b.mp4"
    assert renders.find_render("000000000000", folder=tmp_path) is None
    assert stat.S_IMODE((tmp_path / renders.RENDERS_FILE).stat().st_mode) == 0o600
