"""The demo's real parts: two small chat models, a router trained on their answers, and a question set."""
