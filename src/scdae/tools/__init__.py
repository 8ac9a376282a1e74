"""What several tools share: the model they work with, one split of the molecules, groups, normal cells."""
