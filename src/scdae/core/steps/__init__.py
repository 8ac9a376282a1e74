"""Training steps: one compiled update, fed by the host or taken many at a time on an accelerator."""
