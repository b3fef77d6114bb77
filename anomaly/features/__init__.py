"""What a detector sees: extractors of pictures (`backbones`, `filters`) and of sensor windows (`encoder`), built from a spec and stored by
`build`, with what all extractors share in `stages`, after the first layers of `preprocess`; `training` adapts them."""
