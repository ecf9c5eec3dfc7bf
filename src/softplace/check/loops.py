"""Loops: run once per known element, or for any of them."""

from __future__ import annotations

import ast
from collections.abc import Callable

from softplace.check.imports import Imports
from softplace.check.state import Frame, merged
from softplace.check.values import Constant, Value, key

LONGEST_LOOP = 16
"""Elements that a loop is run for, one by one."""


class Loops(Imports):
    """Running loops."""

    def loop(self, node: ast.For | ast.AsyncFor, frame: Frame) -> bool:
        iterated = self.evaluate(node.iter, frame)
        known = self.elements(iterated)
        parts = known and not all(isinstance(each, Constant) for each in known)
        if known is not None and parts and len(known) <= LONGEST_LOOP and len(frame.leaving) < 2:
            self.repeat(node.body, frame, [lambda each=each: self.assign(node.target, each, frame) for each in known])  # type: ignore[misc]
        else:
            element = self.element(iterated, self.site(node.iter, frame))
            self.repeat(node.body, frame, [lambda: self.assign(node.target, element, frame)] * 2, open_end=True)
        return self.execute(node.orelse, frame)

    def while_loop(self, node: ast.While, frame: Frame) -> bool:
        if self.truth(self.evaluate(node.test, frame)) is False:
            return self.execute(node.orelse, frame)
        self.repeat(node.body, frame, [lambda: None] * 2, open_end=True)
        return self.execute(node.orelse, frame)

    def repeat(
        self, body: list[ast.stmt], frame: Frame, binds: list[Callable[[], None]], *, open_end: bool = False
    ) -> None:
        """Run a loop's body once per bind. Loops are taken to run at least once; `open_end`: maybe more often."""
        ends: list[dict[str, Value]] = []
        for number, bind in enumerate(binds):
            bind()
            before = dict(frame.variables)
            breaks: list[dict[str, Value]] = []
            goes_on: list[dict[str, Value]] = []
            frame.leaving.append((breaks, goes_on))
            if self.execute(body, frame):
                goes_on.append(frame.variables)
            frame.leaving.pop()
            ends.extend(breaks)
            if not goes_on:
                frame.variables = before
                break
            frame.variables = merged(goes_on)
            if open_end and len(frame.leaving) > 1:
                break
            if open_end and number == 0:
                changed = any(
                    name in before and before[name] is not value and key(before[name]) != key(value)
                    for name, value in frame.variables.items()
                )
                if not changed:
                    break
                ends.append(dict(frame.variables))
        if ends:
            frame.variables = merged([*ends, frame.variables])

    def leave_loop(self, node: ast.Break, frame: Frame) -> bool:
        if frame.leaving:
            frame.leaving[-1][0].append(frame.variables)
        return False

    def next_round(self, node: ast.Continue, frame: Frame) -> bool:
        if frame.leaving:
            frame.leaving[-1][1].append(frame.variables)
        return False
