"""Static analysis: every misplaced softmax in a code base, found without running it. Needs no torch.

`softplace check PATH...` reads Python files and notebooks, follows values through them, and reports where a softmax (or
log-softmax, or sigmoid) meets what does not fit it. `softplace.check.command.Run` is the same as an object.
"""
