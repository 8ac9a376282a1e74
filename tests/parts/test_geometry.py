import numpy as np
import pytest

from scdae.parts import geometry
from scdae.parts.geometry import Geometry, height_for


@pytest.mark.parametrize("most", [7, 100, 10_000])
@pytest.mark.parametrize("n_obs", [1, 2, 10, 97, 1000])
def test_parts_are_whole_chunks_and_all_rows_once(monkeypatch, n_obs, most):
    monkeypatch.setattr(geometry, "CHUNK_VALUES", 20 * most)
    for n_parts in {1, 2, 3, min(n_obs, 7), n_obs}:
        if n_parts > n_obs:
            continue
        height = height_for(n_obs, 20, 20, n_parts)
        assert 1 <= height <= most
        of = Geometry(n_obs, height, n_parts)
        rows = [of.rows(part) for part in range(1, n_parts + 1)]
        assert [start for start, _ in rows] == [0, *(stop for _, stop in rows[:-1])] and rows[-1][1] == n_obs
        assert all(start % height == 0 and start < stop for start, stop in rows)
        sizes = np.diff(np.array(rows), axis=1)
        assert sizes.max() <= max(2 * n_obs / n_parts, height)
        for part, (start, stop) in enumerate(rows, 1):
            spans = of.spans(part)
            assert spans[0][0] == start and spans[-1][1] == stop
            assert all(a[1] == b[0] for a, b in zip(spans[:-1], spans[1:], strict=True))
            assert all(stop - start == height for start, stop in spans[:-1])
