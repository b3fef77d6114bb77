"""The commands that learn from normal data: `anomaly fit`, `pretrain`, `bundle variants`, `transfer`, `sources`, `curve`."""
