"""From data to bundle: `steps` walks, `line` says what it needs of a kind of input, `kinds` has one row a kind.

`assess` asks a finished bundle; `rank_sources` compares other lines as sources of transfer.
"""

import os

# PyTorch's threads otherwise wait busily for each other: on a machine with other work, or beside ONNX Runtime's threads, a fit then takes
# many times as long. It must be set before PyTorch is imported.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
