"""Which rows are whose: parts of whole chunks, so that no two processes ever write to one file."""

from __future__ import annotations

from dataclasses import dataclass

from scdae.matrices.chunk_sizes import CHUNK_VALUES

__all__ = ["Geometry", "height_for"]

_SPARSER = 8  # times fewer values in the counts of some rows than if they were dense, about


def height_for(n_obs: int, n_vars: int, n_genes: int, n_parts: int) -> int:
    """Rows of a chunk: of a usual size, and such that parts of whole chunks are about as large as one another.

    Parameters
    ----------
    n_obs, n_vars
        Cells and genes that are read.
    n_genes
        Genes that are written.
    n_parts
        Number of parts, not more than there are cells.

    Examples
    --------
    >>> height_for(150, 60, 60, 4)
    38
    """
    most = max(CHUNK_VALUES // max(n_genes, n_vars // _SPARSER, 1), 1)
    each = -(-n_obs // n_parts)
    chunks = -(-each // most)  # of a part
    height = -(-each // chunks)
    if height * chunks * (n_parts - 1) >= n_obs:  # nothing would be left for the last part
        height = max(n_obs // (n_parts * chunks), 1)
    return height


@dataclass(frozen=True)
class Geometry:
    """Rows of a store in chunks, and chunks in parts.

    Parameters
    ----------
    n_obs
        Rows.
    height
        Rows of a chunk; the last may have fewer.
    n_parts
        Number of parts.

    Examples
    --------
    >>> geometry = Geometry(n_obs=10, height=2, n_parts=3)
    >>> [geometry.rows(part) for part in (1, 2, 3)]
    [(0, 2), (2, 6), (6, 10)]
    >>> list(geometry.spans(3))
    [(6, 8), (8, 10)]
    """

    n_obs: int
    height: int
    n_parts: int

    def rows(self, part: int) -> tuple[int, int]:
        """Return the first and last (excluded) row of a part; parts are numbered from 1."""
        n_chunks = -(-self.n_obs // self.height)
        first, last = ((part - 1 + end) * n_chunks // self.n_parts for end in (0, 1))
        return first * self.height, min(last * self.height, self.n_obs)

    def spans(self, part: int) -> list[tuple[int, int]]:
        """Return the first and last (excluded) row of each chunk of a part."""
        start, stop = self.rows(part)
        return [(first, min(first + self.height, stop)) for first in range(start, stop, self.height)]
