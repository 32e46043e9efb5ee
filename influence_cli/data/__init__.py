"""From a name or a path to checked arrays."""
