"""Numbers that users pass, as what they have to be, or an error that names them."""

from __future__ import annotations

from numbers import Real
from operator import index
from typing import Any

import numpy as np

__all__ = ["check_form", "check_seed", "drawn_seed", "integer", "real_number", "whole_number"]


def whole_number(name: str, value: Any, least: int, most: int | None = None) -> int:
    """Return the value as a whole number; floats that are whole, as R passes them, count.

    Raises
    ------
    ValueError
        It is none, or out of its range.
    """
    number = _whole(value)
    if number is None or number < least or (most is not None and number > most):
        span = f"of {least:,} or more" if most is None else f"from {least:,} to {most:,}"
        raise ValueError(f"{name}={value!r}: use a whole number {span}.")
    return number


def integer(name: str, value: Any, *, text: bool = False) -> Any:
    """Return a number as an integer, None and lists as they are; a seed drawn from a generator of random numbers.

    Parameters
    ----------
    name, value
        The argument.
    text
        Whether it may be text as well.

    Raises
    ------
    ValueError
        It is no whole number; or a seed below zero.

    Examples
    --------
    >>> integer("n_samples", 500.0)
    500
    """
    if name == "seed" and isinstance(value, np.random.Generator | np.random.RandomState):
        return drawn_seed(value)
    if value is None or np.ndim(value) > 0 or (text and isinstance(value, str)):
        return value
    number = _whole(value.item() if hasattr(value, "item") else value)  # of NumPy
    if number is None:
        raise ValueError(f"{name}={value!r}: use a whole number.")
    return check_seed(number) if name == "seed" else number


def _whole(value: Any) -> int | None:
    """Return the integer that a number is; None where it is none."""
    if isinstance(value, bool):
        return None
    try:
        return int(value) if isinstance(value, Real) and value % 1 == 0 else index(value)  # type: ignore[call-overload]
    except (TypeError, ValueError, OverflowError):
        return None


def real_number(name: str, value: Any, wanted: str) -> float:
    """Return the value as a finite number.

    Parameters
    ----------
    name, value
        The argument.
    wanted
        What it has to be, for the message.

    Raises
    ------
    ValueError
        It is not a number, or not finite.
    """
    try:
        number = float("nan") if isinstance(value, bool | str | bytes) else float(value)
    except (TypeError, ValueError, OverflowError):
        number = float("nan")
    if not abs(number) < float("inf"):
        raise ValueError(f"{name}={value!r}: use {wanted}.")
    return number


def drawn_seed(random: np.random.Generator | np.random.RandomState) -> int:
    """Draw a seed from 0 to 2**31 - 1, which moves the generator on by one draw: the next one is another.

    Examples
    --------
    >>> random = np.random.default_rng(0)
    >>> drawn_seed(random) == drawn_seed(np.random.default_rng(0)), drawn_seed(random) == drawn_seed(random)
    (True, False)
    """
    most = 2**31
    return int(
        random.integers(most) if isinstance(random, np.random.Generator) else random.randint(most, dtype=np.int64)
    )


def check_seed(seed: Any) -> Any:
    """Return a seed for NumPy: a whole number of 0 or more; what else NumPy takes (None, sequences) is passed on."""
    if seed is None or isinstance(seed, list | tuple):
        return seed
    return whole_number("seed", seed, 0)


def check_form(threshold: Any, dtype: Any) -> None:
    """Raise ValueError unless dtype and threshold can be used together."""
    if np.dtype(dtype) not in (np.float32, np.float16):
        raise ValueError(f"dtype={dtype!r}: use 'float32', or 'float16' for half of the space and three digits.")
    if threshold is None:
        return
    if not (np.ndim(threshold) == 0 and np.isfinite(threshold) and threshold > 0):
        raise ValueError(f"threshold={threshold!r}: use a number of counts above 0, such as 0.01, or None to keep all.")
    if np.dtype(dtype) == np.float16:
        raise ValueError("dtype='float16' and threshold= exclude each other: SciPy has no sparse matrices of float16.")
