"""Settings of the model, checked when they are made."""

from __future__ import annotations

from dataclasses import dataclass, fields
from math import isfinite
from numbers import Real
from typing import Any, Literal, NamedTuple, get_args

__all__ = ["Config", "Corruption", "Effort", "FixedPoint", "Likelihood"]


class FixedPoint(NamedTuple):
    """How the fixed point is sought."""

    tolerance: float = 1e-3  # largest change of a log count that counts as none
    max_iter: int = 50
    damping: float = 1.0  # share of the way that is gone


Likelihood = Literal["zinb", "nb", "poisson"]
Corruption = Literal["thinning", "gaussian", "masking"]
Effort = Literal["fast", "default", "best"]

_WHOLE = ("n_latent", "n_hidden", "n_components", "batch_size", "max_epochs", "gap_max_iter", "seed")
_SIZES = ("n_latent", "n_hidden", "n_components")
_CHOSEN = (*_SIZES, "batch_size", "max_epochs", "gap_max_iter", "held_out", "weight_decay")  # where they are None
_POSITIVE = ("n_latent", "n_hidden", "n_components", "batch_size", "learning_rate", "gap_tolerance", "gap_damping")


@dataclass(frozen=True)
class Config:
    """What is decided before the data are seen.

    Parameters
    ----------
    likelihood
        Distribution of the counts: ``"zinb"``, ``"nb"`` or ``"poisson"``.
    n_latent
        Width of the bottleneck; None chooses by how many principal axes are found again in molecules that were left
        out.
    n_hidden
        Width of the encoder's hidden layer; None chooses by `n_latent`.
    n_components
        Principal axes that the encoder gets; None chooses by the number of cells.
    corruption
        ``"thinning"`` sets molecules aside and predicts them; ``"masking"`` sets whole entries aside and predicts them;
        ``"gaussian"`` adds noise to the normalized input and predicts the counts.
    noise
        Range of the noise level, drawn anew for each cell and step: the share set aside (thinning, masking), or the
        standard deviation on the scale of log counts per 10,000 (gaussian).
    max_epochs
        Passes over the cells; None chooses by the number of cells.
    batch_size
        Cells in a step; None chooses 64 to 96 by the number of genes, and up to 512 of many cells.
    learning_rate
        Peak of the schedule.
    weight_decay
        Decoupled weight decay of encoder, loadings and batch effects; None chooses: more where genes have fewer
        molecules, and where there are fewer steps.
    gap_tolerance
        Entries that were not observed are filled by self-consistency, until no log count moves by more than this.
    gap_max_iter
        Most iterations of that; 0 for the answer of one pass. None: 50, or 0 where entries hidden on purpose say that
        one pass predicts them better.
    gap_damping
        Share of the way that each iteration goes, above 0 and up to 1.
    held_out
        Share of the molecules set aside for stopping, the gate and the report; None chooses by their number.
    seed
        Seed of everything random.
    effort
        ``"fast"``, ``"default"`` or ``"best"``: how many steps, how large a network, and how many networks that are
        averaged, where these are left to be chosen.
    """

    likelihood: Likelihood = "zinb"
    n_latent: int | None = None
    n_hidden: int | None = None
    n_components: int | None = None
    corruption: Corruption = "thinning"
    noise: tuple[float, float] = (0.1, 0.8)
    max_epochs: int | None = None
    batch_size: int | None = None
    learning_rate: float = 0.02
    weight_decay: float | None = None
    gap_tolerance: float = 1e-3
    gap_max_iter: int | None = None
    gap_damping: float = 1.0
    held_out: float | None = None
    seed: int = 0
    effort: Effort = "default"

    @property
    def gaps(self) -> FixedPoint:
        """How entries that were not observed are filled, unless a fit finds that one pass is better."""
        limit = FixedPoint().max_iter if self.gap_max_iter is None else self.gap_max_iter
        return FixedPoint(self.gap_tolerance, limit, self.gap_damping)

    def __post_init__(self) -> None:
        """Name the first setting that makes no sense."""
        for name, kind in (("likelihood", Likelihood), ("corruption", Corruption), ("effort", Effort)):
            choices = get_args(kind)
            if getattr(self, name) not in choices:
                raise ValueError(f"{name}={getattr(self, name)!r}: choose one of {', '.join(map(repr, choices))}.")
        for name in (*_WHOLE, "learning_rate", "weight_decay", "gap_tolerance", "gap_damping", "held_out"):
            self._check_number(name, whole=name in _WHOLE)
        for name in _POSITIVE:
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ValueError(f"{name}={getattr(self, name)!r}: use a number above 0.")
        if self.max_epochs is not None and not self.max_epochs >= 1:
            raise ValueError(
                f"max_epochs={self.max_epochs!r}: use 1 or more, or None to choose by the number of cells."
            )
        if self.weight_decay is not None and not self.weight_decay >= 0:
            raise ValueError(f"weight_decay={self.weight_decay!r}: use 0 or more.")
        if self.held_out is not None and not 0 < self.held_out < 0.5:
            raise ValueError(f"held_out={self.held_out!r}: use a fraction between 0 and 0.5, or None.")
        if self.gap_max_iter is not None and not self.gap_max_iter >= 0:
            raise ValueError(
                f"gap_max_iter={self.gap_max_iter!r}: use a number of iterations, 0 for one pass, or None to choose."
            )
        if not self.gap_damping <= 1:
            raise ValueError(f"gap_damping={self.gap_damping!r}: use a fraction of the way, above 0 and up to 1.")
        if not 0 <= self.seed < 2**32:
            raise ValueError(f"seed={self.seed!r}: use a whole number from 0 to 2**32 - 1.")
        self._check_noise()

    def _check_number(self, name: str, *, whole: bool) -> None:
        """Turn NumPy's numbers into Python's, so that settings are plain values and can be saved."""
        value = getattr(self, name)
        if value is None and name in _CHOSEN:
            return
        number: Any = value
        if (
            isinstance(value, bool)
            or not isinstance(value, Real)
            or not isfinite(number)
            or (whole and number % 1 != 0)
        ):
            raise ValueError(f"{name}={value!r}: use a {'whole' if whole else 'finite'} number.")
        object.__setattr__(self, name, int(number) if whole else float(number))

    def _check_noise(self) -> None:
        noise = self.noise
        levels = (noise, noise) if isinstance(noise, Real) else tuple(noise)
        if len(levels) != 2 or not all(isinstance(level, Real) for level in levels):
            raise ValueError(f"noise={noise!r}: use one level, or a range (low, high).")
        object.__setattr__(self, "noise", (float(levels[0]), float(levels[1])))
        low, high = self.noise
        top = float("inf") if self.corruption == "gaussian" else 1.0
        if not 0 <= low <= high < top or high == 0:
            limit = "0 or more" if self.corruption == "gaussian" else "at least 0 and below 1"
            raise ValueError(f"noise={noise!r}: with corruption={self.corruption!r} use levels {limit}, low to high.")

    @classmethod
    def names(cls) -> tuple[str, ...]:
        """Names of all settings."""
        return tuple(field.name for field in fields(cls))

    def to_dict(self) -> dict[str, Any]:
        """Settings as plain values; those left to be chosen are missing."""
        values = {name: getattr(self, name) for name in self.names()}
        return {k: list(v) if isinstance(v, tuple) else v for k, v in values.items() if v is not None}
