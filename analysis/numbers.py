"""Numbers as pages, tables and pictures write them. app/components/photo.js writes them the same way."""

from decimal import ROUND_HALF_UP, Decimal

import numpy as np

Number = float | np.floating


def percent(p: Number) -> str:
    """A share or probability: `43 %`, below a tenth `4.3 %`, and `< 0.1 %` where that would be 0.0."""
    p = float(p)  # a narrower one would round otherwise
    if 0 < p < 0.0005:
        return "< 0.1 %"
    return _fixed(100 * p, 1 if 0 < p < 0.0995 else 0) + " %"


def signed(v: Number, digits: int = 2) -> str:
    """A number with its sign; without one where it is written as 0."""
    text = decimal(v, digits)
    return "+" + text if v > 0 and text.strip("0.") else text


def decimal(v: Number, digits: int = 2) -> str:
    """A number with a true minus; none where it is written as 0, and a dash where it is unknown."""
    v = float(v)
    if v != v:
        return "–"
    size = _fixed(abs(v), digits)
    return ("−" if v < 0 and float(size) else "") + size


def times(x: Number) -> str:
    """A multiple: `1.3×`."""
    return _fixed(x, 1) + "×"


def _fixed(x: Number, digits: int) -> str:
    """With so many digits, halves up, as JavaScript's toFixed."""
    return str(Decimal(float(x)).quantize(Decimal(1).scaleb(-digits), ROUND_HALF_UP))
