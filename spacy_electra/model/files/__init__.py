"""Models on disk: Hugging Face's directories, safetensors, ONNX, messages of bytes."""
