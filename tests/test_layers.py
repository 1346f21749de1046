"""Imports point down: read from the syntax trees, held to one order of ranks, and free of circles."""

import ast
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatch
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("edge_embed", "edge_embed_export", "edge_embed_runtimes")
SDK_RANKS = (
    ("edge_embed.cli*", "edge_embed.__main__", "edge_embed.show*", "edge_embed.report*"),
    ("edge_embed_export*", "edge_embed.train*", "edge_embed.integrations*"),
    ("edge_embed.evaluate*",),
    ("edge_embed.model*",),
    ("edge_embed.data*", "edge_embed.extras", "edge_embed.vectors", "edge_embed"),
)
RUNTIME_RANKS = (
    ("fake",),
    ("embedder", "check"),
    ("run*",),
    ("choose*",),
    ("device*",),
    ("engines*", "bundle", "tokenizer", "index*"),
    ("manifest",),
    ("tiers", "files", "progress", "cache"),
    ("errors",),
)
RANKS = (
    *SDK_RANKS,
    *(tuple(f"edge_embed_runtimes.{pattern}" for pattern in patterns) for patterns in RUNTIME_RANKS),
    ("edge_embed_runtimes",),
)
RUNTIME_MAY_IMPORT = {"numpy", "tokenizers", "filelock", "onnxruntime", "openvino", "pyarrow", *sys.stdlib_module_names}


@dataclass(frozen=True)
class Import:
    """`deferred`: inside a function or under TYPE_CHECKING, so not part of loading the module."""

    names: tuple[str, ...]
    line: int
    deferred: bool
    typing_only: bool


def imports(tree: ast.AST, *, deferred: bool = False, typing_only: bool = False) -> Iterator[Import]:
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import((alias.name,), node.lineno, deferred, typing_only)
        elif isinstance(node, ast.ImportFrom):
            base = "." * node.level + (node.module or "")
            for alias in node.names:
                yield Import((f"{base}.{alias.name}", base), node.lineno, deferred, typing_only)
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            yield from imports(ast.Module(node.body, []), deferred=True, typing_only=True)
            yield from imports(ast.Module(node.orelse, []), deferred=deferred, typing_only=typing_only)
        else:
            function = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            yield from imports(node, deferred=deferred or function, typing_only=typing_only)


def rank(module: str) -> int | None:
    """0 is the top; an exact name counts before a pattern."""
    for fits in (str.__eq__, fnmatch):
        for number, patterns in enumerate(RANKS):
            if any(fits(module, pattern) for pattern in patterns):
                return number
    return None


def target(found: Import, modules: Iterable[str]) -> str:
    """The module an import loads: `from a import b` means a.b where that is a module, else a."""
    return next((name for name in found.names if name in modules), found.names[-1])


def violations(sources: dict[str, str]) -> list[str]:
    """What is wrong with the imports of `sources`: module name to source text."""
    wrong = [f"{module} has no rank" for module in sources if rank(module) is None]
    edges: dict[str, set[str]] = {module: set() for module in sources}
    for module, source in sources.items():
        for found in imports(ast.parse(source)):
            wanted = target(found, sources)
            package = wanted.split(".")[0]
            where = f"{module}:{found.line}"
            if package == "":
                wrong.append(f"{where} is a relative import")
            elif package not in PACKAGES:
                if module.startswith("edge_embed_runtimes") and package not in RUNTIME_MAY_IMPORT:
                    wrong.append(f"{where} imports {package}")
                continue
            elif wanted not in sources:
                wrong.append(f"{where} imports {wanted}, which is no module")
            elif None not in (rank(wanted), rank(module)) and rank(wanted) < rank(module):
                wrong.append(f"{where} points up to {wanted}")
            if not found.deferred and wanted in sources:
                edges[module].add(wanted)
    try:
        TopologicalSorter(edges).prepare()
    except CycleError as error:
        wrong.append(f"circle {' > '.join(error.args[1])}")
    return list(dict.fromkeys(wrong))


def project() -> dict[str, str]:
    sources = {}
    for folder in ("edge_embed", "export", "runtimes"):
        base = ROOT if folder == "edge_embed" else ROOT / folder
        for path in sorted((ROOT / folder).rglob("*.py")):
            parts = path.relative_to(base).with_suffix("").parts
            sources[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path.read_text(encoding="utf-8")
    return sources


def test_the_project_keeps_its_layers():
    sources = project()
    assert {"edge_embed", "edge_embed_export", "edge_embed_runtimes.embedder"} <= sources.keys()
    assert violations(sources) == []


def test_the_package_root_loads_nothing():
    at_run_time = [found for found in imports(ast.parse(project()["edge_embed"])) if not found.typing_only]
    assert {found.names[-1] for found in at_run_time} <= {"importlib", "typing"}


RUNTIME = "edge_embed_runtimes"
BASE = {
    "edge_embed.model.encoder": "import torch\nfrom edge_embed.extras import require",
    "edge_embed.extras": "",
    "edge_embed.train.loop": "",
    "edge_embed_export.build": "",
    RUNTIME: "",
    f"{RUNTIME}.tiers": "",
    f"{RUNTIME}.bundle": f"from {RUNTIME} import tiers\nfrom {RUNTIME}.tiers import Tier",
    f"{RUNTIME}.embedder": f"import numpy, os.path\nimport {RUNTIME}.bundle",
}


@pytest.mark.parametrize(
    ("module", "source", "says"),
    [
        (f"{RUNTIME}.tiers", f"from {RUNTIME}.bundle import Bundle", f"points up to {RUNTIME}.bundle"),
        (f"{RUNTIME}.tiers", f"from {RUNTIME} import bundle", f"points up to {RUNTIME}.bundle"),
        (f"{RUNTIME}.tiers", f"def f():\n  import {RUNTIME}.bundle", f"points up to {RUNTIME}.bundle"),
        (f"{RUNTIME}.bundle", "import edge_embed.extras", "points up to edge_embed.extras"),
        (f"{RUNTIME}.bundle", "import torch.nn", "imports torch"),
        (f"{RUNTIME}.bundle", "try:\n  from onnx import helper\nexcept ImportError: pass", "imports onnx"),
        (f"{RUNTIME}.bundle", "from . import tiers", "relative import"),
        (f"{RUNTIME}.bundle", f"import {RUNTIME}.gone", "no module"),
        (f"{RUNTIME}.novel", "", "has no rank"),
        ("edge_embed.model.encoder", "import edge_embed.train.loop", "points up to edge_embed.train.loop"),
        ("edge_embed.model.encoder", "from edge_embed_export.build import x", "points up to edge_embed_export.build"),
        (
            "edge_embed.model.encoder",
            "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n  import edge_embed.train.loop",
            "points up to edge_embed.train.loop",
        ),
    ],
)
def test_the_check_finds(module, source, says):
    assert violations(BASE) == []
    assert any(found.startswith(module) and says in found for found in violations({**BASE, module: source}))


def test_the_check_finds_circles_of_equal_rank():
    circle = {"edge_embed.train.a": "import edge_embed.train.b", "edge_embed.train.b": "import edge_embed.train.a"}
    (found,) = violations({**BASE, **circle})
    assert found.startswith("circle edge_embed.train")
    deferred = {**circle, "edge_embed.train.a": "def f():\n  import edge_embed.train.b"}
    assert violations({**BASE, **deferred}) == []
