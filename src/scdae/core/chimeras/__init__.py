"""Chimeras of gene sequences: common coordinates, what two places or two parents explain over one, and a score of both."""
