"""What several commands share: loading rewards, tables, checks, progress."""
