"""What a run would cost: estimates from the measurements in docs/performance.md (20,000 genes, two cores).

Seconds grow with the steps, and with the non-zeros of the cells on which axes and effects are found; memory with the non-zeros, and
with layers that are held.
Seconds are those of one machine: `scdae batch` asks a scheduler for three times as many.
"""

from __future__ import annotations

from scdae._settings import settings
from scdae.core.training.loadings import affordable

__all__ = ["layer_bytes", "peak_bytes", "seconds_of_restoring", "seconds_of_training"]

_START = 5.0  # seconds: compilation
_STEP = 60e-6 / 20_000  # seconds of a step, for each entry of its dense arrays
_ENTRY_OF_SOME, _SOME = 0.33e-6, 2**24  # seconds for each stored entry of the cells that axes are found on
_ENTRY = 0.06e-6  # seconds for each stored entry of all
_VALUES = 48e6  # values that are restored in a second
_BASE = 0.45 * 2**30  # bytes of a process that has compiled its programs
_READ = 26  # bytes of each stored entry, beyond the input: the counts, their molecules for training and for judging
_SOLVE = 72  # and while loadings are solved for, of each entry of the cells that this is done with
_GENE = 10_000  # bytes of each gene: minibatches of cells, in the network and while it is judged
_LATENT = 32  # numbers of the latent space, of which there are 12 to 64
_SPARSE_SHARE, _SPARSE = 0.6, 8  # entries of a sparse layer, of all, and bytes of each
_DRAWN = 2**24  # stored entries of the cells that are drawn where there are too many to be held
_CHUNK, _COPIES = 4 * 2**24, 3  # bytes of a chunk of a lazy layer, and how often they are there while it is worked out


def seconds_of_training(n_steps: int, batch_size: int, n_vars: int, n_stored: int) -> float:
    """Estimate the seconds of a training on two cores.

    Parameters
    ----------
    n_steps, batch_size
        Steps, and cells in each.
    n_vars
        Genes with counts.
    n_stored
        Stored entries of all cells.

    Examples
    --------
    >>> round(seconds_of_training(400, 64, 20_000, 3_800_000))  # measured: 7.9
    8
    """
    dense = _STEP * n_steps * batch_size * n_vars
    return _START + dense + _ENTRY_OF_SOME * min(n_stored, _SOME) + _ENTRY * n_stored


def seconds_of_restoring(n_values: int) -> float:
    """Estimate the seconds that so many values of a layer take."""
    return n_values / _VALUES


def layer_bytes(n_values: int, threshold: float | None = None) -> int:
    """Return the bytes of layers of `n_values` in all: exact if they are dense, a guess where small ones are left out."""
    return 4 * n_values if threshold is None else int(_SPARSE * _SPARSE_SHARE * n_values)


def peak_bytes(n_stored: int, n_bytes: int, *, held: int = 0, chunks: int = 0, n_obs: int = 0, n_vars: int = 0) -> int:
    """Estimate the peak of the memory of a run: that of the fit, or of restoring where its layers are larger.

    Parameters
    ----------
    n_stored
        Stored entries of the counts.
    n_bytes
        What is read into memory; not what stays on disk.
    held
        Bytes of layers that are held.
    chunks
        Of a lazy layer, that are computed side by side; 0 where there is none.
    n_obs, n_vars
        Cells and genes.

    Examples
    --------
    >>> peak_bytes(3_800_000, 30_000_000) < peak_bytes(3_800_000, 30_000_000, held=10**9)
    True
    """
    if n_stored > settings.max_entries and n_obs:  # read block by block; what a fit looks at as a whole is some cells
        n_obs, n_stored = max(n_obs * _DRAWN // n_stored, 1), _DRAWN
    cells = len(affordable(n_obs, max(n_vars, 1), _LATENT)) if n_obs else 0
    entries = n_stored * cells // n_obs if n_obs else n_stored
    products = 4 * cells * (_LATENT + 1) * (_LATENT + 2) // 2
    solving = _SOLVE * entries + products
    restoring = held + chunks * _COPIES * min(_CHUNK, 4 * n_obs * n_vars)
    return int(_BASE + n_bytes + _READ * n_stored + _GENE * n_vars + max(solving, restoring))
