"""From arrays to an AnnData: slots, reports, names."""
