"""What commands and Python users call: it takes a model, groups and test rows, and returns results."""
