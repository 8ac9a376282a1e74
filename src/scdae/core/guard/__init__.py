"""Reconstruction error of cells, p-values, and purification of perturbed profiles."""
