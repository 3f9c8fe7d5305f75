"""Training: losses, assigner, Lightning module, trainer, plots."""
