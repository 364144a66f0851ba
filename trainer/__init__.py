"""Data set in, model bundle out."""
