"""What a job's own Python is asked before the job is queued, as text that it runs: does the program compile, and are its modules there?

`python -c TEXT script FILE`, or `module NAME`, or `code TEXT`. Prints `<file>\\t<line>\\t<module or error>\\t<what>`, or nothing. Runs no
code of the job's: a file is parsed, and a module is looked for. What a program may import or not (in a `try`, a function or an `if`)
is not looked at, nor anything where it changes sys.path itself. Every Python since 3.7 must be able to run this.
"""

from __future__ import annotations

import ast
import importlib.util
import os
import sys
from collections.abc import Iterator
from importlib.machinery import ModuleSpec

MOST = 200
"""Files of the job's own that are followed."""
PLACES = ("path", "meta_path", "path_hooks")
"""Of sys: where modules are looked for."""


def main(kind: str, what: str) -> str:
    """What is to be said; empty if nothing is."""
    sys.path[0] = os.path.dirname(os.path.abspath(what)) if kind == "script" else os.getcwd()
    if kind == "module":
        return "" if found(what.partition(".")[0]) else f"-m\t1\t{what}\tmodule"
    left = [(what, "-c" if kind == "code" else what)]
    seen: set[str] = set()
    while left and len(seen) < MOST:
        source, name = left.pop()
        if name not in seen:
            seen.add(name)
            said, more = looked(source, name)
            if said:
                return said
            left += more
    return ""


def looked(source: str, name: str) -> tuple[str, list[tuple[str, str]]]:
    """What is to be said of one file, and the files of the job's own that it imports."""
    try:
        tree = parsed(source, name)
    except SyntaxError as error:
        return f"{name}\t{error.lineno or 0}\t{error.msg}\tsyntax", []
    specs = [(line, module, found(module)) for line, module in imports(tree)] if not changes_path(tree) else []
    missing = next((f"{name}\t{line}\t{module}\tmodule" for line, module, spec in specs if spec is None), "")
    files = [spec.origin for _, _, spec in specs if isinstance(spec, ModuleSpec) and spec.origin and own(spec.origin)]
    return missing, [(file, os.path.relpath(file)) for file in files]


def parsed(source: str, name: str) -> ast.Module:
    if name == "-c":
        return ast.parse(source)
    with open(source, "rb") as file:
        return ast.parse(file.read(), name)


def imports(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Line and first name of each module that is imported whatever happens."""
    for node in tree.body:
        if isinstance(node, ast.Import):
            for each in node.names:
                yield node.lineno, each.name.partition(".")[0]
        elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
            yield node.lineno, node.module.partition(".")[0]


def changes_path(tree: ast.Module) -> bool:
    """Whether it does anything from which it follows that modules may be found elsewhere."""
    return any(_changes(node) for node in ast.walk(tree))


def _changes(node: ast.AST) -> bool:
    if isinstance(node, ast.ImportFrom):
        return node.module == "sys" and any(each.name in PLACES for each in node.names)
    if not isinstance(node, ast.Attribute):
        return False
    of_sys = isinstance(node.value, ast.Name) and node.value.id == "sys"
    return node.attr == "addsitedir" or (of_sys and node.attr in PLACES)


def found(module: str) -> ModuleSpec | bool | None:
    """Its spec, or True where it is there in another way; Noria's client comes with the job, and msgspec with that."""
    if module in ("noria", "msgspec", "__main__") or module in sys.modules:
        return True
    try:
        return importlib.util.find_spec(module)
    except ValueError:
        return True


def own(origin: str) -> bool:
    """Whether a module is a file of the job's own, beside its program."""
    return origin.endswith(".py") and origin.startswith(sys.path[0] + os.sep) and "site-packages" not in origin


if __name__ == "__main__":
    print(main(*sys.argv[1:3]))
