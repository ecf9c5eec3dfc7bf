"""Known names of outside packages: what an operation does to a tensor's kind.

Names are made canonical first (`torch.nn.modules.loss.X` is `torch.nn.X`), then operations are looked up by their last
word, since packages agree on them (`softmax` of torch, jax, tensorflow and scipy).
"""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

from softplace.check.values import Kind

# Packages whose names are never looked for among the project's files, unless the project is that package.
OUTSIDE = frozenset(
    [
        "torch",
        "torchvision",
        "torchaudio",
        "torchtext",
        "numpy",
        "scipy",
        "sklearn",
        "pandas",
        "tensorflow",
        "keras",
        "tf_keras",
        "jax",
        "flax",
        "optax",
        "haiku",
        "transformers",
        "timm",
        "lightning",
        "pytorch_lightning",
        "skorch",
        "einops",
        "matplotlib",
        "tqdm",
        "yaml",
        "json",
        "os",
        "sys",
        "math",
        "random",
        "argparse",
        "logging",
        "collections",
        "functools",
        "itertools",
        "typing",
        "pathlib",
        "copy",
        "time",
        "datasets",
        "accelerate",
        "torch_geometric",
        "torch_scatter",
        "torch_sparse",
        "dgl",
        "kornia",
        "monai",
        "segmentation_models_pytorch",
        "torchmetrics",
        "wandb",
        "tensorboard",
        "tensorboardX",
        "cv2",
        "PIL",
        "gym",
        "gymnasium",
        "networkx",
        "nltk",
        "spacy",
        "peft",
        "deepspeed",
        "apex",
        "fairseq",
        "fairscale",
        "hydra",
        "omegaconf",
        "entmax",
        "ignite",
        "catalyst",
        "paddle",
        "mindspore",
        "mxnet",
        "chainer",
        "theano",
        "dataclasses",
        "abc",
        "enum",
        "re",
        "warnings",
        "pickle",
        "unittest",
        "pytest",
        "albumentations",
    ]
)
TENSOR_PACKAGES = frozenset(
    [
        "torch",
        "numpy",
        "scipy",
        "jax",
        "tensorflow",
        "keras",
        "flax",
        "einops",
        "torch_geometric",
        "torch_scatter",
        "entmax",
        "cupy",
        "dgl",
    ]
)

_PREFIXES = (
    ("tensorflow.python.keras", "keras"),
    ("tensorflow.keras", "keras"),
    ("tf_keras", "keras"),
    ("keras.src", "keras"),
    ("tensorflow.compat.v1", "tensorflow"),
    ("flax.linen", "flax.nn"),
    ("flax.nnx", "flax.nn"),
    ("pytorch_lightning", "lightning"),
    ("lightning.pytorch", "lightning"),
    ("jax.numpy", "jax.nn"),
)
_TORCH_MODULES = "torch.nn.modules."


@cache
def canonical(name: str) -> str:
    """One name for the many addresses of a thing.

    >>> canonical("torch.nn.modules.loss.CrossEntropyLoss")
    'torch.nn.CrossEntropyLoss'
    >>> canonical("tensorflow.keras.layers.Dense")
    'keras.layers.Dense'
    """
    if name.startswith(_TORCH_MODULES):
        return "torch.nn." + name.rsplit(".", 1)[1]
    for prefix, short in _PREFIXES:
        if name == prefix or name.startswith(prefix + "."):
            return short + name[len(prefix) :]
    return name


class Normaliser(NamedTuple):
    """What a softmax-like operation makes, where its dim stands, and what dim it has when none is given."""

    kind: Kind
    dim_position: int | None
    default_dim: int | None
    implicit: bool = False


_SOFTMAX = Normaliser(Kind.PROBABILITIES, 1, None, True)
_SIGMOID = Normaliser(Kind.SIGMOID, None, None)

# torch: by the last word of a function or the name of a layer.
NORMALISERS: dict[str, Normaliser] = {
    "softmax": _SOFTMAX,
    "softmin": _SOFTMAX,
    "log_softmax": Normaliser(Kind.LOG_PROBABILITIES, 1, None, True),
    "gumbel_softmax": Normaliser(Kind.PROBABILITIES, 4, -1),
    "sparsemax": Normaliser(Kind.PROBABILITIES, 1, -1),
    "entmax15": Normaliser(Kind.PROBABILITIES, 1, -1),
    "entmax_bisect": Normaliser(Kind.PROBABILITIES, 2, -1),
    "scatter_softmax": Normaliser(Kind.PROBABILITIES, 2, -1),
    "edge_softmax": Normaliser(Kind.PROBABILITIES, None, None),
    "sigmoid": _SIGMOID,
    "expit": _SIGMOID,
    "logsigmoid": Normaliser(Kind.LOG_SIGMOID, None, None),
    "log_sigmoid": Normaliser(Kind.LOG_SIGMOID, None, None),
}
NORMALISER_LAYERS: dict[str, tuple[str, int | None]] = {
    "Softmax": ("softmax", 0),
    "Softmin": ("softmin", 0),
    "LogSoftmax": ("log_softmax", 0),
    "Softmax2d": ("softmax", None),
    "Sigmoid": ("sigmoid", None),
    "LogSigmoid": ("logsigmoid", None),
    "Sparsemax": ("sparsemax", 0),
    "Entmax15": ("entmax15", 0),
}
SOFTMAX_NAMES = frozenset(name for name in NORMALISERS if "sigmoid" not in name and name != "expit")

# Keeps the numbers and the shape.
SAME = frozenset(
    [
        "detach",
        "to",
        "cuda",
        "cpu",
        "float",
        "double",
        "half",
        "bfloat16",
        "type",
        "type_as",
        "clone",
        "contiguous",
        "requires_grad_",
        "numpy",
        "dropout",
        "dropout1d",
        "dropout2d",
        "dropout3d",
        "alpha_dropout",
        "feature_dropout",
        "clamp",
        "clip",
        "clamp_min",
        "clamp_max",
        "nan_to_num",
        "detach_",
        "as_tensor",
        "asarray",
        "stop_gradient",
        "cast",
        "convert_to_tensor",
        "identity",
        "requires_grad",
        "cuda",
        "cpu",
        "ascontiguousarray",
        "from_numpy",
        "copy",
        "deepcopy",
        "clip_by_value",
        "real",
        "retain_grad",
        "pin_memory",
        "block_until_ready",
        "astype",
        "round_",
        "maximum_",
        "Variable",
        "npu",
        "xpu",
        "tensor",
        "array",
    ]
)
# Keeps the numbers; the shape changes.
RESHAPED = frozenset(
    [
        "view",
        "reshape",
        "squeeze",
        "unsqueeze",
        "flatten",
        "permute",
        "transpose",
        "t",
        "expand",
        "expand_as",
        "repeat",
        "cat",
        "concat",
        "concatenate",
        "stack",
        "hstack",
        "vstack",
        "gather",
        "index_select",
        "masked_select",
        "narrow",
        "select",
        "roll",
        "flip",
        "mean",
        "interpolate",
        "pad",
        "rearrange",
        "swapaxes",
        "moveaxis",
        "movedim",
        "tile",
        "broadcast_to",
        "view_as",
        "reshape_as",
        "repeat_interleave",
        "adaptive_avg_pool2d",
        "avg_pool2d",
        "adaptive_avg_pool1d",
        "avg_pool1d",
        "expand_dims",
        "take",
        "take_along_axis",
        "item",
        "tolist",
        "swapdims",
        "unflatten",
        "ravel",
        "upsample",
        "median",
        "nanmean",
        "reduce_mean",
        "nan_to_num",
        "fliplr",
        "flipud",
        "rot90",
        "pad_sequence",
        "all_gather",
        "resize",
        "crop",
    ]
)
SPLITTING = frozenset(["chunk", "split", "unbind", "tensor_split", "unstack"])
# Mixes the numbers into new raw scores.
MIXING = frozenset(
    [
        "linear",
        "conv1d",
        "conv2d",
        "conv3d",
        "conv_transpose1d",
        "conv_transpose2d",
        "conv_transpose3d",
        "bilinear",
        "batch_norm",
        "layer_norm",
        "instance_norm",
        "group_norm",
        "embedding",
    ]
)
PRODUCTS = frozenset(
    [
        "matmul",
        "bmm",
        "mm",
        "dot",
        "baddbmm",
        "addmm",
        "mv",
        "einsum",
        "tensordot",
        "inner",
        "vdot",
        "spmm",
        "batch_dot",
        "multi_dot",
    ]
)
SCALED_PRODUCTS = frozenset(["baddbmm"])
ACTIVATIONS = frozenset(
    [
        "relu",
        "relu_",
        "relu6",
        "leaky_relu",
        "elu",
        "selu",
        "celu",
        "gelu",
        "silu",
        "mish",
        "tanh",
        "softplus",
        "hardtanh",
        "swish",
        "softsign",
        "prelu",
        "hardswish",
        "tanh_",
        "glu",
        "rrelu",
        "normalize",
        "tanhshrink",
        "hardshrink",
        "softshrink",
    ]
)
POSITIVE_KEEPING = frozenset(
    ["relu", "relu_", "leaky_relu", "elu", "selu", "celu", "ReLU", "LeakyReLU", "ELU", "SELU", "CELU"]
)
CONSTANTS = frozenset(["zeros", "ones", "full", "zeros_like", "ones_like", "full_like", "empty_"])
INDEX_MAKERS = frozenset(
    [
        "argmax",
        "argmin",
        "one_hot",
        "to_categorical",
        "argsort",
        "nonzero",
        "where_index",
        "randint",
        "arange",
        "bincount",
    ]
)
COMPARISONS = frozenset(
    ["eq", "ne", "lt", "gt", "le", "ge", "logical_not", "logical_and", "logical_or", "isnan", "isinf", "bool"]
)
MASKING = frozenset(["masked_fill", "where", "masked_scatter"])

# Layers of torch.nn that keep the kind of what goes through.
KEEPING_LAYERS = frozenset(
    [
        "Identity",
        "Dropout",
        "Dropout1d",
        "Dropout2d",
        "Dropout3d",
        "AlphaDropout",
        "Flatten",
        "Unflatten",
        "Upsample",
        "AvgPool1d",
        "AvgPool2d",
        "AdaptiveAvgPool1d",
        "AdaptiveAvgPool2d",
        "Squeeze",
        "UpsamplingBilinear2d",
        "UpsamplingNearest2d",
        "DropPath",
        "Rearrange",
    ]
)
RECURRENT_LAYERS = frozenset(["RNN", "LSTM", "GRU"])
LINEAR_LAYERS = frozenset(
    [
        "Linear",
        "LazyLinear",
        "Bilinear",
        "Conv1d",
        "Conv2d",
        "Conv3d",
        "ConvTranspose1d",
        "ConvTranspose2d",
        "ConvTranspose3d",
        "LazyConv1d",
        "LazyConv2d",
    ]
)

# What `from keras.layers import *` brings, as far as models of today need it.
KERAS_LAYERS = (
    *("Activation", "Add", "Average", "AveragePooling1D", "AveragePooling2D", "BatchNormalization", "Bidirectional"),
    *("Concatenate", "Conv1D", "Conv2D", "Conv2DTranspose", "Conv3D", "Dense", "DepthwiseConv2D", "Dropout", "ELU"),
    *("Embedding", "Flatten", "GRU", "GlobalAveragePooling1D", "GlobalAveragePooling2D", "GlobalMaxPooling1D"),
    *("GlobalMaxPooling2D", "Input", "InputLayer", "LSTM", "Lambda", "Layer", "LayerNormalization", "LeakyReLU"),
    *("MaxPool1D", "MaxPool2D", "MaxPooling1D", "MaxPooling2D", "Multiply", "Permute", "ReLU", "RepeatVector"),
    *("Reshape", "SeparableConv2D", "SimpleRNN", "Softmax", "SpatialDropout1D", "SpatialDropout2D", "TimeDistributed"),
    *("UpSampling2D", "ZeroPadding2D"),
)

# Calls that give back the model (or tensor) that they were given.
WRAPPERS = frozenset(
    [
        "torch.nn.DataParallel",
        "torch.nn.parallel.DistributedDataParallel",
        "torch.nn.parallel.DataParallel",
        "torch.compile",
        "torch.jit.script",
        "torch.nn.SyncBatchNorm.convert_sync_batchnorm",
        "copy.deepcopy",
        "copy.copy",
        "torch.no_grad",
        "torch.distributed.fsdp.FullyShardedDataParallel",
        "apex.parallel.DistributedDataParallel",
        "torch.nn.utils.weight_norm",
        "torch.nn.utils.spectral_norm",
        "torch.nn.utils.parametrizations.weight_norm",
        "thop.profile",
        "torch.optim.swa_utils.AveragedModel",
        "DataParallelModel",
        "DistributedDataParallel",
        "torch.autograd.Variable",
        "jax.lax.stop_gradient",
        "jax.jit",
        "peft.get_peft_model",
        "tensorflow.function",
        "torch.jit.trace",
        "torch.jit.freeze",
        "torch.quantization.quantize_dynamic",
        "torch.ao.quantization.quantize_dynamic",
        "torch.vmap",
        "torch.func.vmap",
        "jax.vmap",
        "jax.pmap",
        "jax.checkpoint",
        "jax.remat",
    ]
)
# Call their first argument with those that follow.
CALLERS = frozenset(
    [
        "torch.utils.checkpoint.checkpoint",
        "torch.nn.parallel.data_parallel",
        "torch.func.functional_call",
        "torch.nn.utils.stateless.functional_call",
    ]
)
NAMESPACE = "argparse.Namespace"
NAMESPACES = frozenset(["Namespace", "SimpleNamespace", "EasyDict", "Munch"])
"""Objects whose attributes are what one sets."""
# Make a function that gives the gradient of another.
GRADIENTS = frozenset(
    [
        "jax.grad",
        "jax.value_and_grad",
        "flax.nn.grad",
        "flax.nn.value_and_grad",
        "equinox.filter_grad",
        "equinox.filter_value_and_grad",
        "torch.func.grad",
        "torch.func.grad_and_value",
    ]
)
MODEL_METHODS = frozenset(
    [
        "to",
        "cuda",
        "cpu",
        "train",
        "eval",
        "double",
        "float",
        "half",
        "bfloat16",
        "requires_grad_",
        "apply",
        "share_memory",
        "to_empty",
        "type",
        "module_",
        "compile_",
    ]
)
# Libraries' objects that hand back their arguments as they are: accelerator.prepare(model, optimizer, loader).
PASSING_METHODS = frozenset(["prepare", "setup", "setup_module", "prepare_model", "initialize"])

MODULE_BASES = frozenset(
    [
        "torch.nn.Module",
        "lightning.LightningModule",
        "torch.nn.Sequential",
        "torch.jit.ScriptModule",
        "keras.Model",
        "keras.layers.Layer",
        "keras.models.Model",
        "flax.nn.Module",
        "transformers.PreTrainedModel",
        "torch_geometric.nn.MessagePassing",
        "torch.autograd.Function",
        "torch.nn.modules.loss._Loss",
    ]
)
SAMPLERS = frozenset(
    ["Categorical", "OneHotCategorical", "RelaxedOneHotCategorical", "Multinomial", "MixtureSameFamily"]
)
BINARY_SAMPLERS = frozenset(["Bernoulli", "RelaxedBernoulli"])

# Names that `from elsewhere import *` of a missing file most likely gives.
CUSTOMARY = {
    "torch": "torch",
    "nn": "torch.nn",
    "F": "torch.nn.functional",
    "np": "numpy",
    "tf": "tensorflow",
    "jnp": "jax.nn",
    "optim": "torch.optim",
    "pl": "lightning",
    "Variable": "torch.autograd.Variable",
}
