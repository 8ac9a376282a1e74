"""Tools: what imputation gains, how sure it is, and what follows from it."""

from scdae.tl._evaluate import evaluate

__all__ = ["evaluate"]
