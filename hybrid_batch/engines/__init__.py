"""The boundary to models: protocols, a router on torch, a vLLM server's life, an HTTP client."""
