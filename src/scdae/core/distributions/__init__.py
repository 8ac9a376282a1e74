"""Likelihoods of counts and what follows from them: predictive distributions, posteriors, quantiles."""
