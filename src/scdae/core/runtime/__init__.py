"""What any computation needs around it: signals that stop it, threads beside it, devices it may use."""
