"""Models in GGUF files, as llama.cpp and Ollama store them: transformers dequantises one into an ordinary model."""

from drift.policy.gguf.load import config_of_gguf, load_gguf

__all__ = ["config_of_gguf", "load_gguf"]
