"""What users pass, as what it has to be, or an error that names it."""
