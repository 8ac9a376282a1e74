"""From counts to a fitted model: sizes, initialization, the loop, checkpoints."""
