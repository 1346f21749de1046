"""Texts through sessions: opened, checked, shared by threads, closed."""
