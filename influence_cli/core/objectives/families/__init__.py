"""Row losses as functions of the linear predictor, one family a file."""
