"""The story of one labelling: sample, answer with both models, judge."""
