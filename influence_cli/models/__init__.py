"""From options and data to a trained model: settings, weights, brought scikit-learn models, linked data."""
