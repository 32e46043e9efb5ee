"""Searching for the group of a given size whose removal changes f most, one strategy a file (DESIGN 2.5, 2.6)."""
