"""A binary BCH(127, 64) code that corrects ten wrong bits: what keeps the watermark's identity readable.

Field GF(2^7) by x^7 + x^3 + 1; decoding by Berlekamp-Massey and Chien search (Lin & Costello, Error Control Coding, ch. 6).
Words are integers; bit i is the coefficient of x^i.
"""

from __future__ import annotations

from functools import cache

import numpy as np

LENGTH = 127
DATA_LENGTH = 64
MAX_ERRORS = 10
_PRIMITIVE = 0b10001001


def encode(data: int) -> int:
    """The 127-bit code word whose top 64 bits are `data`."""
    if not 0 <= data < 1 << DATA_LENGTH:
        raise ValueError(f"expected {DATA_LENGTH} bits of data, got {data}")
    shifted = data << (LENGTH - DATA_LENGTH)
    return shifted | _remainder(shifted, _generator())


def decode(word: int) -> tuple[int, int] | None:
    """The data nearest to a received word and the number of bits corrected; None with more than ten wrong bits."""
    syndromes = _syndromes(word)
    locator = _error_locator(syndromes)
    num_errors = len(locator) - 1
    roots = _roots(locator)
    if num_errors > MAX_ERRORS or len(roots) != num_errors:
        return None
    for position in roots:
        word ^= 1 << position
    if any(_syndromes(word)):
        return None
    return word >> (LENGTH - DATA_LENGTH), num_errors


@cache
def _powers() -> tuple[tuple[int, ...], dict[int, int]]:
    """The powers of the primitive element, and the exponent of each element."""
    powers, value = [], 1
    for _ in range(LENGTH):
        powers.append(value)
        value <<= 1
        if value >> 7:
            value ^= _PRIMITIVE
    return tuple(powers), {power: exponent for exponent, power in enumerate(powers)}


def _multiply(a: int, b: int) -> int:
    if a == 0 or b == 0:
        return 0
    powers, logs = _powers()
    return powers[(logs[a] + logs[b]) % LENGTH]


def _invert(a: int) -> int:
    powers, logs = _powers()
    return powers[-logs[a] % LENGTH]


@cache
def _generator() -> int:
    """The product of the minimal polynomials of a, a^3, ... a^19; its degree is 63."""
    powers, _ = _powers()
    product, seen = 1, set[int]()
    for exponent in range(1, 2 * MAX_ERRORS, 2):
        conjugates = {exponent * 2**i % LENGTH for i in range(7)}
        if conjugates & seen:
            continue
        seen |= conjugates
        minimal = [1]
        for conjugate in conjugates:
            root = powers[conjugate]
            shifted = [0, *minimal]
            scaled = [*(_multiply(root, coefficient) for coefficient in minimal), 0]
            minimal = [a ^ b for a, b in zip(shifted, scaled, strict=True)]
        product = _carryless_product(product, sum(bit << i for i, bit in enumerate(minimal)))
    return product


def _carryless_product(a: int, b: int) -> int:
    product = 0
    while b:
        product ^= a * (b & 1)
        a, b = a << 1, b >> 1
    return product


def _remainder(value: int, divisor: int) -> int:
    size = divisor.bit_length()
    while value.bit_length() >= size:
        value ^= divisor << (value.bit_length() - size)
    return value


def _syndromes(word: int) -> list[int]:
    powers, _ = _powers()
    positions = [position for position in range(LENGTH) if word >> position & 1]
    syndromes = []
    for order in range(1, 2 * MAX_ERRORS + 1):
        value = 0
        for position in positions:
            value ^= powers[order * position % LENGTH]
        syndromes.append(value)
    return syndromes


def _error_locator(syndromes: list[int]) -> list[int]:
    """Berlekamp-Massey: the shortest polynomial (lowest power first) whose roots invert the error positions."""
    current, previous = [1], [1]
    length, gap, last = 0, 1, 1
    for step, syndrome in enumerate(syndromes):
        discrepancy = syndrome
        for i in range(1, length + 1):
            discrepancy ^= _multiply(current[i] if i < len(current) else 0, syndromes[step - i])
        if discrepancy == 0:
            gap += 1
            continue
        factor = _multiply(discrepancy, _invert(last))
        correction = [0] * gap + [_multiply(factor, coefficient) for coefficient in previous]
        size = max(len(current), len(correction))
        updated = [_at(current, i) ^ _at(correction, i) for i in range(size)]
        if 2 * length <= step:
            previous, last, length, gap = current, discrepancy, step + 1 - length, 1
        else:
            gap += 1
        current = updated
    while current[-1] == 0:
        current.pop()
    return current


def _roots(locator: list[int]) -> list[int]:
    """The positions at which the primitive element to minus this power is a root (Chien search, all positions at once)."""
    powers, logs = _powers()
    table, positions, values = np.array(powers), np.arange(LENGTH), np.zeros(LENGTH, dtype=np.int64)
    for i, coefficient in enumerate(locator):
        if coefficient:
            values ^= table[(logs[coefficient] - i * positions) % LENGTH]
    return [int(position) for position in np.flatnonzero(values == 0)]


def _at(values: list[int], index: int) -> int:
    return values[index] if index < len(values) else 0
