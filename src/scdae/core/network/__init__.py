"""The autoencoder, its loss, and what is worked out before it: principal axes and batch effects."""
