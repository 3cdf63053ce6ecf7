"""Export: merge, GGUF, Ollama, weight differences, each with receipts that prove it."""
