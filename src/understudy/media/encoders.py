"""Which video encoders this machine's media library has."""

from __future__ import annotations

from collections.abc import Iterable

from av.codec import Codec
from av.codec.codec import UnknownCodecError


def available_encoders(names: Iterable[str]) -> list[str]:
    """Those of `names` that can encode, in the same order; whether a GPU's encoder finds its GPU shows only in use."""
    return [name for name in names if _exists(name)]


def _exists(name: str) -> bool:
    try:
        Codec(name, "w")
    except UnknownCodecError:
        return False
    return True
