"""Export networks as graphs for the fast engines: `onnx` in float, then `quantize` in 8 bits."""
