"""Data sets: the name or path of a source -> checked arrays."""
