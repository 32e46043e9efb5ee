"""What people look at: tables and progress bars (Rich) and pictures (Matplotlib)."""
