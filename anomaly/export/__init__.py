"""From a fitted `detector` to ONNX: `onnx_graph` exports and checks parity, `precision` and `search` make less precise variants."""
