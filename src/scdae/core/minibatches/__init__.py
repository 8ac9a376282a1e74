"""Which cells come when, corrupted how, on which device and in which process."""
