"""From an AnnData to validated arrays: counts, mask, covariates, genes."""
