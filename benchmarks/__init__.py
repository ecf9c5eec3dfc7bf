"""Speed against other ways of doing the same, correctness beside it."""
