"""The copy of every run in MLflow."""
