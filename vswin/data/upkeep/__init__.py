"""Looking after data sets: checking every file, and re-encoding to one size."""
