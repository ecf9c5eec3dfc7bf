"""What `torch.compile` calls as it is; a module of its own, as the decorator loads the compiler (seconds)."""

import torch

from softplace.maps import linear

computed = torch.compiler.disable(linear.computed)  # type: ignore[no-untyped-call]
