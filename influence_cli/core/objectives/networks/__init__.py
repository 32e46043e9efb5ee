"""Feed-forward networks as arithmetic on blocks: activations, passes over rows, and approximations of the curvature."""
