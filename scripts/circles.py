#!/usr/bin/env python3
"""Fails if files of this project import each other in a circle of any length.

A file is a room: it uses the files below it and is used by those above. Read are the paths in `use` and in code
that begin with `crate::`, `self::` or `super::`. A name that a file only hands on (`pub use`) is traced to the file
that defines it, so that no circle hides behind a re-export. Test code does not count.
"""

import re
import sys
from pathlib import Path

ROOTS = ["src/lib.rs", *sorted(str(path) for path in Path("crates").glob("*/src/lib.rs"))]


def code_of(path):
    """The file without comments, strings and test modules."""
    text = path.read_text()
    text = re.sub(r'r(#*)".*?"\1|"(?:\\.|[^"\\])*"|\'(?:\\.|[^\'\\])\'', '""', re.sub(r"//[^\n]*", "", text), flags=re.S)
    return re.sub(r"#\[cfg\((?:test|any\(test[^)]*\))\)\](?:\s*#\[[^\]]*\])*\s*(?:pub(?:\([a-z]+\))? )?mod \w+ (\{.*?^\}|.*?;)", "", text, flags=re.S | re.M)


def leaves(tree):
    """The paths in the tree of a `use`: `a::{b, c as d}` gives `a::b` and `a::c`, with the names they get."""
    tree = tree.strip()
    if "{" not in tree:
        path, _, alias = tree.partition(" as ")
        path = path.strip()
        path = path.removesuffix("::self")
        return [(path, alias.strip() or path.split("::")[-1])]
    head, inner = tree.split("{", 1)
    inner = inner[: inner.rindex("}")]
    found, depth, start = [], 0, 0
    for place, letter in enumerate(inner + ","):
        depth += {"{": 1, "}": -1}.get(letter, 0)
        if letter == "," and depth == 0:
            part = inner[start:place].strip()
            start = place + 1
            if part:
                found += leaves(head.strip() + part)
    return found


class Crate:
    def __init__(self, root):
        self.modules = {}  # ("session", "name") -> path of its file
        self.code = {}
        self.hands_on = {}  # module -> {name: path that it stands for}
        self.read((), Path(root))
        for module, code in self.code.items():
            handed = {}
            for tree in re.findall(r"\bpub(?:\([a-z ]+\))? use ([^;]+);", code):
                for path, name in leaves(tree):
                    handed[name] = path
            self.hands_on[module] = handed

    def read(self, module, path):
        self.modules[module] = path
        code = self.code[module] = code_of(path)
        folder = path.parent if path.name in ("lib.rs", "mod.rs") else path.with_suffix("")
        for name in re.findall(r"^\s*(?:pub(?:\([a-z ]+\))? )?mod (\w+);", code, flags=re.M):
            for file in (folder / f"{name}.rs", folder / name / "mod.rs"):
                if file.exists():
                    self.read((*module, name), file)

    def absolute(self, module, path):
        parts = path.split("::")
        if parts[0] == "crate":
            return parts[1:]
        here = list(module)
        if parts[0] == "self":
            return here + parts[1:]
        while parts and parts[0] == "super":
            here, parts = here[:-1], parts[1:]
        return here + parts

    def home(self, parts, seen=()):
        """The module that defines what a path names, or hands it on from outside."""
        module = ()
        for place, part in enumerate(parts):
            if (*module, part) in self.modules:
                module = (*module, part)
                continue
            handed = self.hands_on[module].get(part)
            if handed and (module, part) not in seen and self.is_ours(module, handed):
                rest = self.absolute(module, self.rooted(module, handed)) + parts[place + 1 :]
                return self.home(rest, (*seen, (module, part)))
            break
        return module

    def rooted(self, module, path):
        """A path of `use` with its beginning: `pub use error::Error` means `self::error::Error`."""
        first = path.split("::")[0]
        return path if first in ("crate", "self", "super") else f"self::{path}"

    def is_ours(self, module, path):
        first = path.split("::")[0]
        return first in ("crate", "self", "super") or (*module, first) in self.modules

    def imports(self, module):
        code = self.code[module]
        paths, called = set(), {}
        for tree in re.findall(r"\buse ([^;]+);", code):
            for path, name in leaves(tree):
                if self.is_ours(module, path):
                    called[name] = self.rooted(module, path.removesuffix("::*"))
                    paths.add(called[name])
        rest = re.sub(r"\buse [^;]+;", "", code)
        paths |= set(re.findall(r"\b(?:crate|self|super)(?:::\w+)+", rest))
        # Paths that begin with a name that was imported: `use crate::settings` and `settings::aws::current()`.
        for name, behind in re.findall(r"(?<![:\w])(\w+)((?:::\w+)+)", rest):
            if name in called:
                paths.add(called[name] + behind)
        found = {self.home(self.absolute(module, path)) for path in paths}
        # Paths through a child that the file declares.
        for child in re.findall(r"(?<![:\w])(\w+)::", rest):
            if (*module, child) in self.modules:
                found.add((*module, child))
        return {other for other in found if other != module}


def circles(graph):
    """The strongly connected sets of more than one node (Tarjan)."""
    index, low, stack, found = {}, {}, [], []

    def visit(node):
        index[node] = low[node] = len(index)
        stack.append(node)
        for other in graph[node]:
            if other not in index:
                visit(other)
                low[node] = min(low[node], low[other])
            elif other in stack:
                low[node] = min(low[node], index[other])
        if low[node] == index[node]:
            members = []
            while not members or members[-1] != node:
                members.append(stack.pop())
            if len(members) > 1:
                found.append(members)

    for node in graph:
        if node not in index:
            visit(node)
    return found


def main():
    failed = False
    files = 0
    for root in ROOTS:
        crate = Crate(root)
        files += len(crate.modules)
        graph = {module: crate.imports(module) for module in crate.modules}
        for members in circles(graph):
            failed = True
            print("These files import each other:")
            for module in sorted(members):
                for other in sorted(graph[module] & set(members)):
                    print(f"  {crate.modules[module]} -> {crate.modules[other]}")
    if failed:
        sys.exit(1)
    print(f"{files} files, and no circle among them")


if __name__ == "__main__":
    main()
