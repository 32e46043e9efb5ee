"""Minimisers of an objective, for blocks of columns side by side."""
