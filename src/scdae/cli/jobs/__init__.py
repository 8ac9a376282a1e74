"""Many jobs of one kind: samples, what to ask a scheduler for, scripts."""
