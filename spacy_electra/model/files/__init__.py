"""Models on disk: Hugging Face's directories, safetensors, ONNX, serialized messages."""
