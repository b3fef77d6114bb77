"""What a detector sees: extractors of pictures (`backbones`, `filters`, `weights`) and of sensor windows (`encoder`), built from a spec and
stored by `build`, cut into stages by `stages`, after the first layers of `preprocess`; `training` adapts them."""
