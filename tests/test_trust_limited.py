"""Foreign files: each hole that media programs of this kind had is tried here, and each is shut."""

from __future__ import annotations

import ast
import struct
from collections.abc import Callable
from fractions import Fraction
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import av
import c2pa
import numpy as np
import pytest

import understudy
from understudy.media import footage as media_footage
from understudy.media import probe, read_frames, write_png
from understudy.media.keyframes import read_key_frames
from understudy.media.tags import container_tags
from understudy.trust import certificates, limited
from understudy.trust.credentials import read_credentials
from understudy.trust.limited import check_footage, run_limited
from understudy.trust.verify import verify
from understudy.types import BadInput

SOURCES = sorted(Path(understudy.__file__).parent.rglob("*.py"))


PIXELS = {"mjpeg": "yuvj420p", "gif": "rgb8"}


def write_clip(path: Path, side_px: int = 64, codec: str = "mpeg4") -> Path:
    with av.open(str(path), "w") as output:
        stream = output.add_stream(codec, rate=Fraction(25))
        stream.width, stream.height, stream.pix_fmt = side_px, side_px, PIXELS.get(codec, "yuv420p")
        for number in range(3):
            picture = np.full((side_px, side_px, 3), 60 * number, np.uint8)
            output.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format=stream.pix_fmt)))
        output.mux(stream.encode(None))
    return path


# ---- playlists ------------------------------------------------------------------------------------------------------------

READERS: dict[str, Callable[[Path], object]] = {
    "probe": probe,
    "frames": lambda path: list(read_frames(path)),
    "key frames": lambda path: list(read_key_frames(path, 3)),
    "tags": container_tags,
    "trial": check_footage,
    "verify": verify,
}


PLAYLISTS = {
    "ffconcat": "ffconcat version 1.0\nfile secret.mp4\n",
    "HLS": "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nsecret.mp4\n#EXT-X-ENDLIST\n",
    "DASH": '<?xml version="1.0"?><MPD><Period><AdaptationSet><BaseURL>secret.mp4</BaseURL></AdaptationSet></Period></MPD>',
    "SDP": "v=0\nc=IN IP4 127.0.0.1\nm=video 5004 RTP/AVP 96\n",
}


@pytest.mark.parametrize(
    ("reader", "kind"), [*((each, "ffconcat") for each in READERS), *(("frames", each) for each in PLAYLISTS)]
)
def test_a_playlist_that_poses_as_a_video_opens_no_other_file(reader: str, kind: str, tmp_path: Path) -> None:
    write_clip(tmp_path / "secret.mp4")
    (tmp_path / "clip.mp4").write_text(PLAYLISTS[kind])
    with pytest.raises(BadInput, match="is a text file, not a video"):
        READERS[reader](tmp_path / "clip.mp4")


@pytest.mark.parametrize(
    "name", ["concat:secret.mp4|secret.mp4", "http://127.0.0.1/clip.mp4", "subfile,,start,0,end,9,,:secret.mp4"]
)
def test_a_name_that_is_a_protocol_is_taken_for_a_file(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_clip(tmp_path / "secret.mp4")
    with pytest.raises(BadInput, match="no such file"):
        probe(Path(name))


# ---- bombs ----------------------------------------------------------------------------------------------------------------


def test_frames_beyond_the_limit_are_refused_from_the_header(tmp_path: Path) -> None:
    data = bytearray(write_clip(tmp_path / "bomb.gif", codec="gif").read_bytes())
    struct.pack_into("<HH", data, 6, 12_000, 12_000)
    (tmp_path / "bomb.gif").write_bytes(data)
    for read in (probe, check_footage):
        with pytest.raises(BadInput, match=r"12000x12000 are larger than the limit|none of its gif video decodes"):
            read(tmp_path / "bomb.gif")


def test_a_stream_that_grows_beyond_the_limit_within_is_not_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The header says 64x64, a later picture is larger than what is allowed: the decoder itself refuses it."""
    small, large = (write_clip(tmp_path / f"{side}.avi", side, "mjpeg") for side in (64, 256))
    pictures = [packet_data(small), packet_data(large)]
    with av.open(str(tmp_path / "grows.avi"), "w") as output:
        stream = output.add_stream("mjpeg", rate=Fraction(25))
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuvj420p"
        for number, data in enumerate(pictures):
            packet = av.Packet(data)
            packet.stream, packet.pts, packet.dts, packet.time_base = stream, number, number, Fraction(1, 25)
            packet.is_keyframe = True
            output.mux(packet)
    assert len(list(read_frames(tmp_path / "grows.avi"))) == 2
    monkeypatch.setattr(media_footage, "MAX_PIXELS", 128 * 128)
    losses: list[str] = []
    assert len(list(read_frames(tmp_path / "grows.avi", on_loss=losses.append))) == 1
    assert "1 packets of video did not decode" in losses[0]


def packet_data(path: Path) -> bytes:
    with av.open(str(path)) as container:
        return bytes(next(container.demux(video=0)))


def test_what_asks_for_more_memory_than_the_limit_is_bad_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_png(tmp_path / "frames" / "0.png", np.zeros((64, 64, 3), np.uint8))
    check_footage(tmp_path / "frames")
    program = tmp_path / "greedy.py"
    program.write_text(
        "from understudy.trust.limited import answer_limited\nanswer_limited(lambda path: {'n': len(bytearray(2**40))})"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(BadInput, match="needs more than 8 GB"):
        run_limited("greedy", tmp_path / "x.mp4")


# ---- the limited process --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "SIGSEGV"),
        ("import time; time.sleep(60)", "could not be read within 2 seconds"),
        ("path.write_bytes(b'x')", "damaged on purpose"),
        ("import sys; sys.exit(3)", "exit 3"),
    ],
)
def test_what_crashes_hangs_or_writes_does_so_elsewhere(
    line: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "harm.py"
    program.write_text(
        "from understudy.trust.limited import answer_limited\n"
        f"def read(path):\n    {line}\n    return {{}}\n"
        "answer_limited(read)\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    if "sleep" in line:
        monkeypatch.setattr(limited, "MAX_SECONDS", 2)
    with pytest.raises(BadInput, match=words):
        run_limited("harm", tmp_path / "x.mp4")
    assert not (tmp_path / "x.mp4").exists() or (tmp_path / "x.mp4").stat().st_size == 0


def test_good_footage_passes_the_trial_and_bad_is_named_as_the_user_named_it(
    tmp_path: Path, sample: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    check_footage(sample / "abel_test.mp4", None)
    monkeypatch.chdir(tmp_path)
    Path("notes.mp4").write_text("notes")
    with pytest.raises(BadInput, match=r"^notes\.mp4: is a text file"):
        check_footage(Path("notes.mp4"))


# ---- what the code never does ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.name)
def test_nothing_is_unpickled_and_no_text_is_run_as_code(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import | ast.ImportFrom):
            modules = {alias.name for alias in node.names} | {getattr(node, "module", "") or ""}
            assert not modules & {"pickle", "marshal", "shelve", "dill", "joblib"}, f"{path}:{node.lineno}"
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            assert called not in ("eval", "exec", "torch.load", "yaml.load"), f"{path}:{node.lineno}"
            options = {option.arg: ast.unparse(option.value) for option in node.keywords if option.arg}
            assert options.get("allow_pickle", "False") == "False", f"{path}:{node.lineno}"
            assert options.get("shell", "False") == "False", f"{path}:{node.lineno}"


def test_credentials_never_make_verify_fetch_anything(tmp_path: Path) -> None:
    """A file whose manifest lies at an address, as a tracker would make it."""
    visits: list[str] = []

    class Tracker(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            visits.append(self.path)
            self.send_error(404)

        def log_message(self, format: str, *arguments: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Tracker) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        picture, tracked = tmp_path / "a.png", tmp_path / "b.png"
        write_png(picture, np.zeros((32, 32, 3), np.uint8))
        chain = certificates.signing_chain(tmp_path / "keys")
        info = c2pa.C2paSignerInfo(
            alg=chain.algorithm.encode(), sign_cert=chain.chain_pem, private_key=chain.key_pem, ta_url=None
        )
        action = {"action": "c2pa.created", "digitalSourceType": "http://cv.iptc.org/newscodes/digitalsourcetype/digitalArt"}
        manifest = {"assertions": [{"label": "c2pa.actions.v2", "data": {"actions": [action]}}]}
        with c2pa.Signer.from_info(info) as signer, c2pa.Builder(manifest) as builder:
            builder.set_no_embed()
            builder.set_remote_url(f"http://127.0.0.1:{server.server_port}/manifest.c2pa")
            builder.sign_file(picture, tracked, signer)
        assert b"127.0.0.1" in tracked.read_bytes()
        assert read_credentials(tracked).state in ("absent", "broken")
        assert visits == []
        server.shutdown()
