"""`python -m benchmarks [NAME ...] [options]`: every benchmark, or those named."""

import sys
from importlib import import_module
from itertools import takewhile

BENCHMARKS = {
    "attention": "long sequences with every map against PyTorch's fused softmax",
    "calibration": "calibrators, calibration errors and prediction sets against scikit-learn and others",
    "check": "the softmax finder against ruff and torchfix",
    "check_corpus": "`softplace check` on real code: recall, false alarms, places, files per second",
    "experts": "a mixture of experts against loops over experts and a dense layer of equal FLOPs",
    "fleet": "training many small networks",
    "latent": "categorical autoencoders against Pyro and a plain loop, and a fleet of them",
    "logit": "multinomial logits against statsmodels and scikit-learn, and streams of rows",
    "logit_statistics": "errors, effects, resamples and conditional logits beside statsmodels",
    "maps": "maps against torch and the package entmax",
    "memory": "NTM and DNC against pytorch-ntm, pytorch-dnc and RobertCsordas/dnc",
    "output": "the loss of a linear head and other heads against PyTorch's, in time and memory",
    "translation": "translators against Joey NMT, the Annotated Transformer, torch.nn.Transformer and CTranslate2",
}


def main() -> int:
    """The exit code: that of the last benchmark that failed."""
    chosen = list(takewhile(lambda word: not word.startswith("-"), sys.argv[1:]))
    options = sys.argv[1 + len(chosen) :]
    unknown = [name for name in chosen if name not in BENCHMARKS]
    if unknown or (not chosen and {"-h", "--help"} & set(options)):
        if unknown:
            print(f"Unknown benchmark {unknown[0]!r}.", file=sys.stderr)
        print(__doc__, *(f"{name:18}{what}" for name, what in BENCHMARKS.items()), sep="\n")
        return 2 if unknown else 0
    code = 0
    for name in chosen or BENCHMARKS:
        sys.argv = [f"python -m benchmarks {name}", *options]
        code = import_module(f"benchmarks.{name}").main() or code
    return code


if __name__ == "__main__":
    sys.exit(main())
