"""What the commands share: options, errors in one line, exit codes, data in and out, reports."""
