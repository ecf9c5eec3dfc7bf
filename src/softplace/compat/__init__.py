"""The names and arguments of other packages, on top of our maps: a user changes one import line."""
