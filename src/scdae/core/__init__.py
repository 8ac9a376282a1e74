"""Arrays in, arrays out: the model, its training and its read-out. Nothing here knows AnnData."""
