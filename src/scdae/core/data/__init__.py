"""Counts of cells as the model takes them: cells, chunks of cells, minibatches, thinning."""
