"""What a person gets to see: progress while a run goes on, a table at its end, a page and a cost table to keep."""
