"""Real runs in processes of their own, and what really ends them."""
