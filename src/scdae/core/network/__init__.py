"""The autoencoder and its loss; principal axes and batch effects, which are computed before it."""
