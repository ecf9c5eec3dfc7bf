"""Names in the source as weak evidence of what something is."""

from __future__ import annotations

import ast


def words_of(node: ast.expr | None) -> str:
    """The names in an expression, in lower case: weak evidence of what it is."""
    if isinstance(node, ast.Name):
        return node.id.lower()
    if isinstance(node, ast.Attribute):
        return f"{words_of(node.value)} {node.attr.lower()}"
    if isinstance(node, ast.Call):
        return words_of(node.func)
    if isinstance(node, ast.Subscript):
        return words_of(node.value)
    if isinstance(node, ast.UnaryOp):
        return words_of(node.operand)
    if isinstance(node, ast.Compare):
        return words_of(node.left)
    if isinstance(node, ast.BinOp):
        return f"{words_of(node.left)} {words_of(node.right)}"
    return ""


_HEAD_SIZES = frozenset(["dk", "d_k", "head_dim", "dim_head", "head_size", "d_head", "dim_per_head"])


def is_head_size(node: ast.expr | None) -> bool:
    """Whether an expression is the size of a head by its name: its root is meant where scores are divided by it."""
    return isinstance(node, ast.Name | ast.Attribute) and words_of(node).split()[-1] in _HEAD_SIZES
