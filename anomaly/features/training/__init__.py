"""Training extractors on normals (`pretrain_images`, `pretrain_sensors`) and aligning two lines together (`adapt_domains`, `alignment`)."""
