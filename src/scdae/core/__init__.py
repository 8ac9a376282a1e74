"""Array core: likelihoods, posterior, corruption and training on plain arrays, without AnnData."""
