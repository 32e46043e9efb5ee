"""Engines that run passes over the rows elsewhere, through the protocol of the core (docs/scale.md)."""
