"""Rules before publish as a stage of the review."""
