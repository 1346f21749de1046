"""The public names: a fixed list, each the object of its home, known to type checkers too."""

import ast
from importlib import import_module
from pathlib import Path

import pytest

import edge_embed

PUBLIC = [
    "Budget",
    "Bundle",
    "Choice",
    "Cost",
    "DeviceProfile",
    "EdgeEmbedError",
    "Embedder",
    "FakeSession",
    "Ladder",
    "Manifest",
    "Option",
    "Passport",
    "PowerState",
    "Session",
    "Tier",
    "VectorSet",
    "choose",
    "fake_embedder",
    "parse_ladder",
    "__version__",
]


def typed_names() -> dict[str, str]:
    """Name to home, as the TYPE_CHECKING block tells them; each re-exported as itself."""
    tree = ast.parse(Path(edge_embed.__file__).read_text(encoding="utf-8"))
    (block,) = (node for node in tree.body if isinstance(node, ast.If))
    found = {}
    for node in block.body:
        assert isinstance(node, ast.ImportFrom)
        for alias in node.names:
            assert alias.asname == alias.name
            found[alias.name] = node.module.removeprefix("edge_embed_runtimes.")
    return found


def test_the_list_is_pinned():
    assert edge_embed.__all__ == PUBLIC
    assert dir(edge_embed) == sorted(PUBLIC)


@pytest.mark.parametrize("name", PUBLIC[:-1])
def test_each_name_is_the_object_of_its_home(name):
    home = import_module(f"edge_embed_runtimes.{edge_embed._HOME[name]}")
    value = getattr(edge_embed, name)
    assert value is getattr(home, name)
    assert value.__module__ == home.__name__
    assert value.__doc__


def test_type_checkers_see_the_same_names():
    assert typed_names() == edge_embed._HOME


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(AttributeError) as caught:
        edge_embed.Embeder  # noqa: B018
    assert "'Embeder'" in str(caught.value)
    assert all(name in str(caught.value) for name in PUBLIC)
    assert not hasattr(edge_embed, "torch")
