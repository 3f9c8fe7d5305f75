"""Datasets: reading and checking (torch-free), augmentation, loaders, synthetic scenes."""
