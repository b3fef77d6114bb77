"""Scorers of feature maps: `memory_bank` joins PatchCore's banks of patches (`patches`) and PaDiM's Gaussians (`gaussian`)."""
