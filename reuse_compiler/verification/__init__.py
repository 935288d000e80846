"""Running the original and the compiled model on the same data: errors, remaining ratios and times."""
