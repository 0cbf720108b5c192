"""The boundary to Spark: the session, how input is split, and what one task does."""
