"""Changes good files so that they nearly stay good: exchanged values, turned bits, extreme numbers, cuts and copies."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence

_VALUES = re.compile(rb'"(?:[^"\\\n]|\\.)*"|\b\d[\d.e+:TZ-]*|\btrue\b|\bfalse\b|\bnull\b|\[[^\[\]]*\]|\{[^{}]*\}')
_ODD = (
    b"0", b"-1", b"1e999", b"nan", b"9" * 30, b"9" * 5000, b"true", b"null", b'""', b'"\\u0000"', b'"../../x"', 
    b'"/etc/passwd"',
    b'"\\ud800"', b"[]", b"{}", b"[[[[]]]]", b"[" * 3000, b"{a=1}", b'{"a": 1}', b"1979-05-27", b"0001-01-01", b"07:32:00",
    b"1979-05-27T07:32:00Z", b"9999-12-31", b'"\xc3\xa9\xe2\x80\xae"', b'"' + b"x" * 5000 + b'"', b"1.5", b"-0.0", 
    b'"[project]"',
)  # fmt: skip
_NUMBERS = (
    b"\0" * 4,
    b"\xff" * 4,
    b"\x7f\xff\xff\xff",
    b"\x80\0\0\0",
    b"\0\0\0\1",
    b"\xff\xff\xff\xf0",
    b"\0\0\0\x08",
    b"\0\0\x40\0",
)


def mutated(seeds: Sequence[bytes], draw: random.Random) -> bytes:
    """A seed with one to six changes: exchanged values, turned bits, extreme numbers, cuts, copies, parts of other seeds."""
    seed = draw.choice(seeds)
    first, data = seed[:1], bytearray(seed)
    for _ in range(draw.choice((1, 1, 1, 2, 3, 6))):
        _change(data, seeds, draw)
    if draw.random() < 0.95 and first < b"\x10":  # keep what says which file it is
        data[:1] = first
    return bytes(data)


def _change(data: bytearray, seeds: Sequence[bytes], draw: random.Random) -> None:
    at = draw.randrange(len(data) + 1)
    kind = draw.randrange(8)
    values = list(_VALUES.finditer(bytes(data[:200_000]))) if kind < 3 else []
    if values:
        value = draw.choice(values)
        data[value.start() : value.end()] = draw.choice(_ODD)
    elif kind == 3:
        for _ in range(draw.randrange(1, 9)):
            if data:
                data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
    elif kind == 4:
        data[at : at + 4] = draw.choice(_NUMBERS)
    elif kind == 5:
        del data[at : at + draw.choice((1, 4, 16, 200, len(data)))]
    elif kind == 6:
        data[at:at] = data[draw.randrange(len(data) + 1) :][: draw.choice((1, 8, 64, 500))]
    else:
        other = draw.choice(seeds)
        start = draw.randrange(len(other) + 1)
        data[at:at] = other[start : start + draw.choice((4, 40, 400))]
