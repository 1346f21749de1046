"""What the command line draws: bars, tables, pictures."""
