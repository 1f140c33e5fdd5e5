"""Video models: what the paper trains, and its baselines."""
