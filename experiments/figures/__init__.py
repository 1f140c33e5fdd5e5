"""Plots that the notebooks draw."""
