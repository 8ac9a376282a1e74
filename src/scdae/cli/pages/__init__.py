"""What the commands say, on one page: the plan before and the summary after."""
