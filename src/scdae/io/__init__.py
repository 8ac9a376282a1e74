"""Files in, by what they hold; files out, complete or not at all."""
