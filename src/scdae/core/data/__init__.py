"""Counts in the form that the model takes: cells, chunks of cells, minibatches, thinning."""
