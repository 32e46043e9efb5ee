"""What the commands and a Python user call: a model, groups and test rows to results."""
