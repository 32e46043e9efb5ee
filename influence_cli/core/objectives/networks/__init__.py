"""Feed-forward networks as arithmetic on blocks of rows: activations, passes over rows, approximations of the
curvature."""
