"""What is said of genes that were ranked."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from scdae._log import get_logger, say_result

__all__ = ["say_ranked"]

_FOUND = 0.05  # expected fraction of false discoveries


def say_ranked(tables: Mapping[str, pd.DataFrame], n_left_out: Mapping[str, int], delta: float) -> None:
    """Say how many genes of each group differ, and warn of what a reader would take amiss.

    Parameters
    ----------
    tables
        By group, with the columns ``logfoldchanges`` and ``pvals_adj``.
    n_left_out
        Genes of each group that are not called, since they were not measured.
    delta
        Log2 fold change that is no difference.
    """
    if any(n_left_out.values()):
        most = max(n_left_out, key=lambda name: n_left_out[name])
        get_logger().warning(
            f"scdae: genes that were measured in no cell of a group, or of those it is compared with (mask), are not called: "
            f"{n_left_out[most]:,} in {most!r}, up to that in {sum(map(bool, n_left_out.values())):,} group(s) in all."
        )
    found = (f"{int((table['pvals_adj'] <= _FOUND).sum()):,} in {name!r}" for name, table in tables.items())
    say_result(
        f"genes that differ by more than {delta:g} (log2), at 5 % expected false discoveries: {', '.join(found)}"
    )
    say_result("with biological replicates, test raw counts summed by sample instead.")

    # Where a few genes take much of a group's molecules, the fractions of all others are lower.
    called = {name: table["logfoldchanges"].dropna() for name, table in tables.items()}
    middle = {name: float(values.median()) for name, values in called.items() if len(values)}
    shifted = [f"{name!r} ({value:+.2f})" for name, value in middle.items() if abs(value) > delta]
    if shifted:
        get_logger().warning(
            f"scdae: the median gene differs by more than {delta:g} (log2) in {', '.join(shifted)}. Fold changes are of fractions of a cell's "
            "molecules: where a few genes take a large fraction in a group, those of all others are lower there, whether or not the cells "
            "express them less. Compare fold changes with that of the median gene, or set delta= above it."
        )
