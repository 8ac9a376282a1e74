"""A fitted network read out: encode, fill missing values, decode."""
