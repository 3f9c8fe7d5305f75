"""Accuracy: average precision, curves, confusion matrix."""
