"""Files and folders replaced in one step, where there is room, with errors in one line."""
