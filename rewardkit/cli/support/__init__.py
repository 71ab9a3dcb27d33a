"""Code that several commands share: loading rewards, tables, checks, progress bars."""
