"""Networks with public weights, or with a user's: `load` makes one by name, `weights` and `checkpoint` fill it, `convolutional` and
`transformer` cut it open, `defaults` says where."""

from anomaly.features.backbones.defaults import default_stages as default_stages
from anomaly.features.backbones.load import load_backbone as load_backbone
