"""The registry of experiments, and what launches, tracks and tabulates them."""
