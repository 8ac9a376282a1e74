"""16S sequences: FASTA, lineages, and the windows they are counted in."""
