"""Reads and writes footage: video files, folders of images, sound, colour tags. The only layer that imports av."""

from understudy.media.footage import (
    FOLDER_FRAME_RATE,
    FootageInfo,
    FrameRecord,
    LossReport,
    ignore_losses,
    probe,
)
from understudy.media.images import encode_jpeg, encode_png, read_image, write_jpeg, write_png
from understudy.media.reader import read_frames
from understudy.media.writer import VideoWriter

__all__ = [
    "FOLDER_FRAME_RATE",
    "FootageInfo",
    "FrameRecord",
    "LossReport",
    "VideoWriter",
    "encode_jpeg",
    "encode_png",
    "ignore_losses",
    "probe",
    "read_frames",
    "read_image",
    "write_jpeg",
    "write_png",
]
