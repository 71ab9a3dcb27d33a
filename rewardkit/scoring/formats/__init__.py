"""File formats: reading and writing rows as JSONL or Parquet."""
