"""Reconstruction error of cells and of gene sequences, and purification of perturbed profiles."""
