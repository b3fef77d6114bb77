"""Pictures: figures on real data, defects hidden among the normals, and anomalib side by side."""
