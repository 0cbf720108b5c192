"""What is asked of a router and a label set: how good, which threshold, whether it serves another pair of models."""
