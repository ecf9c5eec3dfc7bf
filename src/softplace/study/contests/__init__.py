"""Contests: one file per place says what to train, on what, and what to measure."""
