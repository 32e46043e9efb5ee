"""Solving H x = b for blocks of right-hand sides: conjugate gradients, and what makes them fast."""
