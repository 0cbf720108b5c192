"""Arrow batches in, Arrow batches out: what is done to rows, without Spark and without storage."""
