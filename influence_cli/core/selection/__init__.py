"""Searching for the group whose removal changes f most, one strategy a file (docs/design.md, section 2.5)."""
