"""The watermark: read again after what happens to clips, invisible, and never found where it is not."""

from __future__ import annotations

import random
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from understudy.media import read_frames
from understudy.trust import bch, watermark, watermark_detector
from understudy.trust.watermark import PUBLIC_KEY, Marker
from understudy.trust.watermark_detector import Detection, Evidence, detect, gather
from understudy.types import BadInput, Image

pytestmark = pytest.mark.slow  # real networks, codecs and clips

IDENTITY = 0xC0FFEE123456


@pytest.fixture(scope="module")
def plates(sample: Path) -> list[Image]:
    """A second of a virtual actor."""
    return [frame.image for frame in read_frames(sample / "abel_test.mp4", stop=25)]


@pytest.fixture(scope="module")
def marked(plates: list[Image]) -> list[Image]:
    marker = Marker(IDENTITY, 512, 512)
    return [marker.mark(plate) for plate in plates]


def psnr_db(a: Image, b: Image) -> float:
    return float(10 * np.log10(255**2 / np.mean((a.astype(float) - b) ** 2)))


def found_in(pictures: list[Image], key: bytes = PUBLIC_KEY) -> Detection:
    evidence = gather(pictures)
    assert evidence is not None
    return detect(evidence, key)


def detect_whole(evidence: Evidence, key: bytes) -> Detection:
    peak = watermark_detector._refined(evidence, 1.0, 1.0, key, watermark_detector.WHOLE_SHIFT)
    return watermark_detector._judged(peak, watermark_detector.NUM_PLACES_WHOLE, key, 1)


def reencoded(pictures: list[Image], folder: Path, codec: str = "libx264", crf: int = 23, keep_every: int = 1) -> list[Image]:
    """The pictures after a lossy round through a video file, as a messenger makes one."""
    path = folder / "sent.mp4"
    with av.open(str(path), "w") as output:
        height, width = pictures[0].shape[:2]
        stream = output.add_stream(
            codec, rate=Fraction(25, keep_every), options={"crf": str(crf), "x265-params": "log-level=none"}
        )
        stream.width, stream.height, stream.pix_fmt = width // 2 * 2, height // 2 * 2, "yuv420p"
        for picture in pictures[::keep_every]:
            even = np.ascontiguousarray(picture[: stream.height, : stream.width])
            output.mux(stream.encode(av.VideoFrame.from_ndarray(even, format="rgb24")))
        output.mux(stream.encode(None))
    return [frame.image for frame in read_frames(path)]


def resized(pictures: list[Image], factor: float) -> list[Image]:
    return [cv2.resize(picture, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA) for picture in pictures]


# ---- the code -------------------------------------------------------------------------------------------------------------


@given(data=st.integers(0, 2**64 - 1), num_errors=st.integers(0, 10), seed=st.integers(0, 2**32))
@settings(max_examples=50)
def test_up_to_ten_wrong_bits_are_corrected(data: int, num_errors: int, seed: int) -> None:
    wrong = sum(1 << position for position in random.Random(seed).sample(range(bch.LENGTH), num_errors))
    assert bch.decode(bch.encode(data) ^ wrong) == (data, num_errors)


def test_random_words_are_no_identity() -> None:
    draw = random.Random(1)
    assert all(watermark.unpack_identity(draw.getrandbits(bch.LENGTH)) is None for _ in range(500))


@given(identity=st.integers(0, 2**48 - 1))
@settings(max_examples=30)
def test_an_identity_survives_packing(identity: int) -> None:
    assert watermark.unpack_identity(watermark.pack_identity(identity)) == (identity, 0)


def test_the_pattern_is_the_one_that_was_published() -> None:
    """Files marked in the past must stay readable: these numbers, which the detector knows, may never change."""
    carried = watermark.waves()
    assert (carried.rows[:3].tolist(), carried.columns[:3].tolist()) == ([0, 0, 0], [6, 7, 8])
    assert np.angle(carried.phases[:3]).tolist() == pytest.approx([-0.8958, -2.8204, 1.2397], abs=1e-3)
    assert carried.bits[:12].tolist() == [3, 45, 38, 107, 106, 30, 76, -1, 79, -1, 17, -1]
    assert len(carried.bits) == 1350
    assert watermark.pack_identity(IDENTITY) % 2**32 == 0x741ABADD


# ---- what it does to a picture --------------------------------------------------------------------------------------------


def test_the_picture_changes_by_no_more_than_42_db(plates: list[Image], marked: list[Image]) -> None:
    assert min(psnr_db(a, b) for a, b in zip(plates[::8], marked[::8], strict=True)) > 42.5
    noise = np.random.default_rng(0).integers(0, 256, (240, 320, 3), dtype=np.uint8)
    assert psnr_db(noise, Marker(IDENTITY, 320, 240).mark(noise)) > 42.5


def test_outside_a_matte_every_pixel_stays_as_it_was(plates: list[Image]) -> None:
    matte = np.zeros((512, 512), np.float32)
    matte[100:300, 150:350] = 1.0
    masked = Marker(IDENTITY, 512, 512).mark(plates[0], matte)
    assert np.array_equal(masked[matte == 0], plates[0][matte == 0])
    assert not np.array_equal(masked, plates[0])


def test_black_and_white_do_not_wrap_round() -> None:
    for level in (0, 255):
        flat = np.full((128, 128, 3), level, np.uint8)
        assert np.abs(Marker(IDENTITY, 128, 128).mark(flat).astype(int) - level).max() < 12


def test_a_picture_of_another_size_is_bad_input(plates: list[Image]) -> None:
    with pytest.raises(BadInput, match="expected a picture of 640x480, got 512x512"):
        Marker(IDENTITY, 640, 480).mark(plates[0])
    with pytest.raises(BadInput, match="at least 64x64"):
        Marker(IDENTITY, 640, 48)


# ---- finding it -----------------------------------------------------------------------------------------------------------


def test_one_picture_is_enough(marked: list[Image]) -> None:
    found = found_in(marked[:1])
    assert found.identity == IDENTITY
    assert found.z > 15


@pytest.mark.parametrize(
    ("codec", "crf", "factor", "keep_every"),
    [
        ("libx264", 23, 1.0, 1),
        ("libx264", 28, 1.0, 1),
        ("libx265", 28, 1.0, 1),
        ("libx264", 23, 0.75, 1),
        ("libx264", 23, 1.0, 2),
    ],
)
def test_it_is_read_after_re_encoding(
    marked: list[Image], tmp_path: Path, codec: str, crf: int, factor: float, keep_every: int
) -> None:
    assert found_in(reencoded(resized(marked, factor), tmp_path, codec, crf, keep_every)).identity == IDENTITY


def test_it_is_read_after_halving_cropping_and_brightening(marked: list[Image], tmp_path: Path) -> None:
    assert found_in(reencoded(resized(marked, 0.5), tmp_path)).identity == IDENTITY
    cropped = [picture[29:483, 23:477] for picture in marked]
    assert found_in(reencoded(cropped, tmp_path)).identity == IDENTITY
    for gain in (0.9, 1.1):
        brighter = [cv2.convertScaleAbs(picture, alpha=gain) for picture in marked]
        assert found_in(reencoded(brighter, tmp_path)).identity == IDENTITY


def test_it_is_read_at_sizes_that_are_no_multiple_of_a_tile() -> None:
    draw = np.random.default_rng(3)
    for width, height in ((1277, 719), (360, 641), (1920, 1080)):
        plate = cv2.resize(draw.integers(60, 190, (9, 16, 3), dtype=np.uint8), (width, height), interpolation=cv2.INTER_CUBIC)
        assert found_in([Marker(IDENTITY, width, height).mark(plate)]).identity == IDENTITY


def test_unmarked_and_foreign_pictures_are_never_called_marked(plates: list[Image], marked: list[Image]) -> None:
    for pictures in (plates[::6], marked[:4]):
        evidence = gather(pictures)
        assert evidence is not None
        wrong_keys = [b"wrong %d" % number for number in range(100)]  # each as good as an unmarked clip
        spectra = [watermark_detector._fold(evidence.residual, scale, scale) for scale in watermark_detector.SCALES[::6]]
        peaks = [watermark_detector._Peak.of(spectrum, key, 1.0, 1.0) for key in wrong_keys[:40] for spectrum in spectra]
        assert max(peak.z for peak in peaks) < 6.5
        chances = np.array([detect_whole(evidence, key).p for key in wrong_keys])
        assert chances.min() > 1e-4
        assert np.mean(chances < 0.1) <= 0.1
    assert not found_in(plates).is_present


def test_the_stated_chance_is_that_of_the_normal_and_the_chi_square_distribution() -> None:
    assert watermark_detector._energy_tail(128.0) == pytest.approx(0.483376, rel=1e-4)  # chi-square with 128 degrees
    assert watermark_detector._energy_tail(200.0) == pytest.approx(4.8726e-05, rel=1e-4)
    assert watermark_detector._both(1.0, 1.0) == pytest.approx(1.0)
    assert watermark_detector._both(0.05, 0.05) == pytest.approx(0.0175, abs=1e-3)


def test_what_is_too_faint_to_be_read_is_still_found(plates: list[Image], tmp_path: Path) -> None:
    """Halved to 160 lines: the pilot alone would not do, but pilot and bits together do."""
    small = resized(plates, 320 / 512)
    marker = Marker(IDENTITY, 320, 320)
    found = found_in(reencoded(resized([marker.mark(plate) for plate in small], 0.5), tmp_path))
    assert found.is_present
    assert found.p < watermark_detector.P_PRESENT


def test_a_flat_or_noisy_picture_carries_nothing() -> None:
    flat = np.full((512, 512, 3), 90, np.uint8)
    noise = np.random.default_rng(2).integers(0, 256, (512, 640, 3), dtype=np.uint8)
    for picture in (flat, noise):
        assert not found_in([picture]).is_present


def test_no_pictures_are_no_evidence() -> None:
    assert gather([]) is None


def test_a_strip_of_pixels_asks_for_no_endless_memory() -> None:
    evidence = gather([np.zeros((2, 60_000, 3), np.uint8)])
    assert isinstance(evidence, Evidence)
    assert evidence.residual.size < 4_000_000
