"""The rows of the training data and what a pass over them does."""
