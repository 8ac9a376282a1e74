"""Prediction with a fitted network: encode, fill missing values, decode."""
