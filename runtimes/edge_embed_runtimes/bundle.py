"""A bundle on disk: opened only if it holds exactly what its manifest says."""

import hashlib
import os
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from edge_embed_runtimes.errors import BundleDamaged, BundleError, BundleNotFound
from edge_embed_runtimes.manifest import MANIFEST_NAME, BundleFile, Engine, GraphRole, Manifest, Precision
from edge_embed_runtimes.tiers import Tier

Verify = Literal["always", "never"]
DEFAULT_PACKAGE = "edge-embed-starbucks-minilm-l6"
_MANIFEST_LIMIT_BYTES = 16 << 20


class Bundle:
    """A bundle folder whose list of files has been checked; a file's content is hashed before it is handed out.

    Args:
        path: the folder.
        verify: `"always"` hashes each file before its first use; `"never"` trusts the folder's content.

    Raises:
        BundleNotFound: no folder there, or an empty one, or one without a manifest.
        BundleDamaged: a file is missing, has another size, is a link, or is not in the manifest.
        BundleTooNew: the manifest has a later format.
    """

    def __init__(self, path: str | os.PathLike[str], *, verify: Verify = "always") -> None:
        if verify not in ("always", "never"):
            raise BundleError(f"verify={verify!r}: allowed are 'always' and 'never'")
        self.path = Path(path)
        self.manifest = _read_manifest(self.path)
        self.verify = verify
        self._hashed: dict[str, tuple[int, int, int]] = {}
        _check_listing(self.path, self.manifest)

    def file(self, entry: BundleFile) -> Path:
        """The path of a file whose content has been checked against its hash, again if it was replaced since.

        Raises:
            BundleDamaged: the content is not what was exported.
        """
        path = self.path / entry.path
        if self.verify == "never":
            return path
        try:
            status = path.stat()
            state = (status.st_ino, status.st_size, status.st_mtime_ns)
            if self._hashed.get(entry.path) != state:
                if sha256_of(path) != entry.sha256:
                    raise BundleDamaged(
                        f"{path} was altered or cut off, or replaced since the bundle was opened (its sha256 differs): "
                        f"copy or export it again"
                    )
                self._hashed[entry.path] = state
        except OSError as error:
            raise BundleDamaged(f"{path} can't be read ({error.strerror}): copy or export it again") from error
        return path

    def graph(self, tier: Tier, engine: Engine, precision: Precision, role: GraphRole = "graph") -> Path:
        """The checked path of one tier's graph, or of the step to it, its weights file checked with it.

        Raises:
            BundleError: the bundle has no such graph.
            BundleDamaged: the content is not what was exported.
        """
        entry = self.manifest.graph(tier, engine, precision, role)
        if entry is None:
            have = sorted({f"{f.engine} {f.precision}" for f in self.manifest.by_role("graph")})
            raise BundleError(f"{self.path} has no {engine} {precision} {role} of {tier}: it has {', '.join(have)}")
        self.weights(engine, precision)
        return self.file(entry)

    def weights(self, engine: Engine, precision: Precision) -> Path:
        """The checked path of the weights file that all tiers of one engine and precision share."""
        for entry in self.manifest.by_role("weights"):
            if (entry.engine, entry.precision) == (engine, precision):
                return self.file(entry)
        raise BundleDamaged(f"{self.path} has no weights for {engine} {precision}: export it again")

    def content_of(self, tier: Tier, engine: Engine, precision: Precision, role: GraphRole = "graph") -> str:
        """The hashes of one tier's graph, or of the step to it, and of its weights file."""
        files = [self.manifest.graph(tier, engine, precision, role), *self.manifest.by_role("weights")]
        return " ".join(file.sha256 for file in files if file and (file.engine, file.precision) == (engine, precision))

    def alone_bytes(self, tier: Tier, engine: Engine, precision: Precision) -> int:
        """What one tier would take on disk by itself: its graph, and the weights that it reads."""
        entry = self.manifest.graph(tier, engine, precision)
        return 0 if entry is None else entry.size_bytes + entry.reads_bytes

    def tokenizer(self) -> Path:
        """The checked path of `tokenizer.json`."""
        return self.only("tokenizer")

    def only(self, role: Literal["tokenizer", "canaries"]) -> Path:
        """The checked path of the one file of a role."""
        entries = self.manifest.by_role(role)
        if len(entries) != 1:
            raise BundleDamaged(f"{self.path} has {len(entries)} {role} files, it needs one: export it again")
        return self.file(entries[0])


def default_bundle() -> Path:
    """The folder of the bundle that a package of its own brings.

    Raises:
        BundleNotFound: the package isn't installed.
    """
    spec = find_spec(DEFAULT_PACKAGE.replace("-", "_"))
    if spec is None or not spec.submodule_search_locations:
        raise BundleNotFound(
            f"no bundle is named, and the default one isn't installed: pip install {DEFAULT_PACKAGE} (in a clone of "
            f"edge-embed: pip install samples/packages/starbucks-minilm-l6), or name a folder that 'edge-embed export' "
            f"wrote"
        )
    return Path(spec.submodule_search_locations[0]) / "bundle"


def sha256_of(path: Path) -> str:
    """The sha256 of a file's content, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _read_manifest(folder: Path) -> Manifest:
    if not folder.is_dir():
        raise BundleNotFound(f"no bundle at {folder}: name the folder that 'edge-embed export' wrote")
    path = folder / MANIFEST_NAME
    if not path.exists():
        kind = "is a checkpoint: run 'edge-embed export' on it" if (folder / "starbucks.json").exists() else None
        kind = kind or ("is empty" if not any(folder.iterdir()) else f"holds no {MANIFEST_NAME}")
        raise BundleNotFound(f"{folder} {kind}; a bundle is the folder that 'edge-embed export' writes")
    if path.is_symlink() or not path.is_file() or path.stat().st_size > _MANIFEST_LIMIT_BYTES:
        raise BundleDamaged(f"{path} is no real file, or larger than {_MANIFEST_LIMIT_BYTES >> 20} MB: export again")
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BundleDamaged(f"{path} can't be read ({error}): copy or export the bundle again") from error
    return Manifest.from_json(text, origin=str(path))


def _check_listing(folder: Path, manifest: Manifest) -> None:
    """Compare the folder with the manifest, before any parser sees a file."""
    expected = {entry.path: entry for entry in manifest.files}
    found: set[str] = set()
    for path in folder.rglob("*"):
        name = path.relative_to(folder).as_posix()
        if path.is_symlink() or not (path.is_file() or path.is_dir()):
            raise BundleDamaged(f"{path} is a link or a device: a bundle holds real files only; copy it as such")
        if path.is_dir() or name == MANIFEST_NAME:
            continue
        if name not in expected:
            raise BundleDamaged(f"{path} is not in the manifest: remove it, or export the bundle again")
        size = path.stat().st_size
        if size != expected[name].size_bytes:
            raise BundleDamaged(
                f"{path} has {size} bytes instead of {expected[name].size_bytes}: copy or export the bundle again"
            )
        found.add(name)
    if missing := sorted(expected.keys() - found):
        raise BundleDamaged(f"{folder} lacks {', '.join(missing[:3])}: copy or export the bundle again")
