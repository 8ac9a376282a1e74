"""One store that many jobs restore parts of: whole parts, each written by one process, and collected when all are there."""
