"""The grammars of groups and test rows, and what they mean on a model's rows."""
