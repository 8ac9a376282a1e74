"""How far training is: kept in a folder, taken up again, and ended well when the job is told to stop."""
