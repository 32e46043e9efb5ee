"""Models as objectives J(theta; w): one interface, a file a model, and the penalty they share."""
