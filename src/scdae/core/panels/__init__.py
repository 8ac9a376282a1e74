"""Genes that a panel did not measure: predicted from reference cells, with levels and limits learned from hidden genes."""
