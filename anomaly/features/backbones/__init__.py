"""Networks with public weights, or with a user's: `load` makes one by name, `weights` reads them, `convolutional` cuts it open."""

from anomaly.features.backbones.load import load_backbone as load_backbone
