"""Doublets: sums of the counts of pairs of cells, and which cells lie where such sums lie."""
