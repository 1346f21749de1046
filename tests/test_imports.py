"""Importing costs what it must and no more: each case in a fresh process."""

import subprocess
import sys

import pytest

HEAVY = ("torch", "transformers", "onnx", "huggingface_hub", "optimum", "nncf", "scipy", "typer")


def loaded_by(code: str, *names: str) -> set[str]:
    """Those of `names` that are loaded after `code`; a module blocked with None is not."""
    script = f"import sys\n{code}\nprint(*[name for name in {names!r} if sys.modules.get(name) is not None])"
    done = subprocess.run([sys.executable, "-W", "error", "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


@pytest.mark.parametrize(
    ("code", "names", "expected"),
    [
        ("import edge_embed", ("numpy", "onnxruntime", "openvino", "tokenizers", "edge_embed_runtimes", *HEAVY), set()),
        ("import edge_embed; dir(edge_embed)", ("numpy", "edge_embed_runtimes"), set()),
        ("import edge_embed; edge_embed.Ladder", ("numpy", "tokenizers", "onnxruntime", *HEAVY), set()),
        ("import edge_embed; edge_embed.Embedder", ("onnxruntime", "openvino", *HEAVY), set()),
        ("from edge_embed import *", ("numpy", "onnxruntime", "openvino", *HEAVY), {"numpy"}),
        ("import edge_embed_runtimes.engines.onnx", ("onnxruntime", "openvino", *HEAVY), {"onnxruntime"}),
        (
            "import edge_embed_runtimes.engines.openvino",
            ("openvino", "openvino_telemetry", "openvino_telemetry.main", "openvino.tools.ovc", *HEAVY),
            {"openvino"},
        ),
    ],
    ids=["root", "dir", "ladder", "embedder", "star", "onnx-engine", "openvino-engine"],
)
def test_what_an_import_loads(code, names, expected):
    assert loaded_by(code, *names) == expected


@pytest.mark.parametrize(
    "code",
    [
        "import edge_embed_runtimes.engines.openvino, openvino",
        "import openvino, edge_embed_runtimes.engines.openvino",
        "import edge_embed_runtimes.engines.openvino, openvino.tools.ovc, openvino",
    ],
)
def test_openvinos_converter_is_there_for_whoever_needs_it(code):
    work = (
        "try:\n    openvino.convert_model('gone.onnx')\n"
        "except Exception as error:\n    assert 'openvino.tools.ovc' in type(error).__module__, error\n"
        "else:\n    raise AssertionError"
    )
    assert loaded_by(f"{code}\n{work}", "openvino.tools.ovc") == {"openvino.tools.ovc"}
