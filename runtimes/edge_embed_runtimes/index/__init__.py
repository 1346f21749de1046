"""Vectors that are kept: their types, their files, and how an index changes tier."""
