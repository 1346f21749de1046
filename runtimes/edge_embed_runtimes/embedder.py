"""The class an app uses: open a bundle, let it choose a tier, embed."""

import logging
import os
import sys
import threading
import warnings
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Literal, overload

import numpy as np
from numpy.typing import NDArray

from edge_embed_runtimes.bundle import Bundle, Verify, default_bundle
from edge_embed_runtimes.choose.governor import DWELL_S
from edge_embed_runtimes.choose.options import against
from edge_embed_runtimes.choose.policy import Budget, Choice, settle
from edge_embed_runtimes.device.probe import PowerState
from edge_embed_runtimes.device.profile import DeviceProfile
from edge_embed_runtimes.engines import LANES
from edge_embed_runtimes.errors import EngineError, LadderError, NoTierFits, SpaceMismatch, TextError
from edge_embed_runtimes.index.outputs import Dtype, Values, check_dtype, convert, unit_length
from edge_embed_runtimes.index.vectors import VectorSet
from edge_embed_runtimes.manifest import Engine, Manifest, Precision
from edge_embed_runtimes.run.refining import Refinable
from edge_embed_runtimes.run.runner import OnChoice, Runner, Track
from edge_embed_runtimes.run.setup import Setup, Wishes, set_up
from edge_embed_runtimes.run.texts import run_texts
from edge_embed_runtimes.tiers import Ladder, Tier
from edge_embed_runtimes.tokenizer import LongTexts, TextCut, Tokenizer, check_texts, pack

log = logging.getLogger("edge_embed")


class Embedder:
    """Sentence vectors from the tiers of a bundle. Make one with `Embedder.open`; use it from any thread.

    Attributes:
        device: what it runs on.
        texts_cut: how many texts have lost their end so far, since they were longer than the encoder reads.
    """

    def __init__(
        self, setup: Setup, runner: Runner, tokenizer: Tokenizer, manifest: Manifest, *, device: str = "CPU"
    ) -> None:
        self.device = device
        self.texts_cut = 0
        self._options = setup.options
        self._runner = runner
        self._tokenizer = tokenizer
        self._manifest = manifest
        self._stepper = setup.stepper
        self._track = runner.start(setup.options)
        self._tracks: dict[tuple[Tier, int], Track] = {}
        self._lock = threading.Lock()
        self._process = os.getpid()
        self._closed = False

    @classmethod
    def open(
        cls,
        bundle: Bundle | str | os.PathLike[str] | None = None,
        *,
        tier: str | None = None,
        engine: Engine | None = None,
        precision: Precision | None = None,
        device: str | None = None,
        budget: Budget | None = None,
        profile: DeviceProfile | str | os.PathLike[str] | None = None,
        threads: int | None = None,
        verify: Verify = "always",
        adapt: bool = True,
        dwell_s: float = DWELL_S,
        on_choice: OnChoice | None = None,
    ) -> "Embedder":
        """Open a bundle. What is named here is kept; the rest is chosen.

        Args:
            bundle: folder that `edge-embed export` wrote, or an opened `Bundle`; None for the default bundle, which is
                a package of its own.
            tier: name of a tier, such as `"demi"` or `"l1-d32"`.
            engine: `"onnx"` or `"openvino"`.
            precision: `"int8"`, `"fp16"` or `"fp32"`.
            device: `"CPU"` (the default), another one that `edge-embed devices` lists, or several with commas, such as
                `"NPU,CPU"`, of which the first that works is taken.
            budget: what one text may cost; none means best quality.
            profile: what the tiers cost here, or the file of it. If the budget needs one and none is given, a quick
                one is made first, which takes seconds.
            threads: threads a call; None for all that this process may use.
            verify: `"always"` checks the hash of each file before its first use, and known texts on each graph;
                `"never"` trusts the folder and the device.
            adapt: choose again, between two calls, when the power state changes or calls take longer than the profile
                says. A budget without limits never changes its mind.
            dwell_s: a choice is kept at least this long, in seconds.
            on_choice: called with the new choice when another tier has taken over.

        Raises:
            BundleError: no usable bundle there, or none of the named engine and precision.
            LadderError: no tier of that name.
            EngineError: the engine or device is missing, or no graph that fits can run.
            NoTierFits: no tier meets the budget.
        """
        place = default_bundle() if bundle is None else bundle
        opened = place if isinstance(place, Bundle) else Bundle(place, verify=verify)
        budget = budget or Budget()
        if isinstance(profile, str | os.PathLike):
            profile = DeviceProfile.load(Path(profile))
        manifest = opened.manifest
        tokenizer = Tokenizer.from_file(opened.tokenizer(), max_tokens=manifest.max_tokens)

        def open_on(name: str) -> "Embedder":
            setup = set_up(opened, tokenizer, Wishes(tier, engine, precision, name, threads), budget, profile)
            runner = Runner(
                setup.pool,
                budget,
                bulk=setup.bulk,
                profile=setup.profile,
                adapt=adapt,
                dwell_s=dwell_s,
                on_choice=on_choice,
            )
            return cls(setup, runner, tokenizer, manifest, device=name)

        *others, last = [name.strip() for name in (device or "CPU").split(",")]
        for name in others:
            try:
                return open_on(name)
            except (EngineError, NoTierFits) as error:
                log.warning("%s is put aside: %s", name, error)
        return open_on(last)

    @property
    def choice(self) -> Choice:
        """Which tier runs, why, and why the others do not."""
        return self._track.running

    @property
    def tiers(self) -> Ladder:
        """Every tier of the bundle."""
        return self._manifest.ladder

    @property
    def space(self) -> str:
        """Id of the vector space; only vectors of one space can be compared."""
        return self._manifest.space

    @property
    def dim(self) -> int:
        """Length of a vector of the tier that runs."""
        return self.choice.tier.dim

    def reconsider(self, power: PowerState | None = None) -> Choice:
        """Choose again now, and wait for it; an app that is told of power changes calls this.

        Args:
            power: the state from now on, where the app knows it better than the system tells; None listens to the
                system again.

        Raises:
            EngineError: the embedder is closed.
        """
        self._check_usable()
        with self._lock:
            tracks = [self._track, *self._tracks.values()]
        self._runner.reconsider(tracks, power)
        return self.choice

    @overload
    def encode(
        self, texts: Sequence[str], *, dtype: Literal["float32"] = "float32", long_texts: LongTexts = "truncate"
    ) -> NDArray[np.float32]: ...
    @overload
    def encode(self, texts: Sequence[str], *, dtype: Dtype, long_texts: LongTexts = "truncate") -> Values: ...
    def encode(self, texts: Sequence[str], *, dtype: Dtype = "float32", long_texts: LongTexts = "truncate") -> Values:
        """Vectors of texts: (n, dim) float32, each of unit length, in the order of `texts`.

        The same text always gets the same vector of a tier, whatever stands beside it. An empty list gives shape
        (0, dim). White space alone is embedded as the empty text. All vectors of a call are of one tier; the next call
        may get another where the budget says so: see `encode_documents`, which keeps the tier beside the vectors.

        Args:
            dtype: `"float16"`, `"int8"` (see `ranges`) or `"bits"`, (n, dim / 8) uint8, to keep many vectors small.
            long_texts: what to do with texts longer than the encoder reads: `"truncate"` leaves their end out and
                warns, `"error"` raises, `"split"` takes the mean vector of their windows, each weighted by its length.

        Warns:
            TextCut: the ends of texts were left out.

        Raises:
            TextError: a bare string, an item that is no valid string, or one that is too long.
            VectorError: an unknown `dtype`.
            EngineError: the embedder is closed, or was opened before a fork.
        """
        self._check_usable()
        check_dtype(dtype)
        choice = self._runner.choice(self._track)
        vectors = self._encode(texts, choice, self._track, long_texts)
        if dtype == "float32":
            return vectors
        return convert(vectors, dtype, self._ranges(choice.tier))

    def encode_documents(
        self,
        texts: Sequence[str],
        *,
        tier: Tier | str | None = None,
        dtype: Dtype = "float32",
        long_texts: LongTexts = "truncate",
    ) -> VectorSet:
        """Vectors for an index, with the tier and the space that they are of.

        Args:
            tier: the tier to use; None for the one that runs.
            dtype, long_texts: see `encode`.
        """
        return self._documents(texts, tier, dtype, long_texts)

    def encode_queries(
        self, texts: Sequence[str], *, against: VectorSet | Tier | str, long_texts: LongTexts = "truncate"
    ) -> VectorSet:
        """Vectors to search an index with, by the tier that suits the moment and that index.

        The budget's `min_quality` is what queries of the tier must score against documents of the index's tier, as in
        the passport. The vectors have no more dimensions than the index, and are of unit length.

        Args:
            against: the index, or the tier that made it.

        Raises:
            SpaceMismatch: the index is of another space.
            NoTierFits: no tier finds this index's documents well enough within the budget.
        """
        self._check_usable()
        if isinstance(against, VectorSet) and against.space != self.space:
            raise SpaceMismatch(
                f"an index of space {against.space!r} can't be searched with queries of {self.space!r}: "
                f"open the bundle that made it, or embed its texts again"
            )
        documents = against.tier if isinstance(against, VectorSet) else self._find(against)
        dim = against.dim if isinstance(against, VectorSet) else documents.dim
        track = self._query_track(documents, dim)
        choice = self._runner.choice(track)
        vectors = self._encode(texts, choice, track, long_texts)
        kept = min(dim, choice.tier.dim)
        if kept < choice.tier.dim:
            vectors = unit_length(vectors[:, :kept])
        return VectorSet(vectors, choice.tier, self.space, kept)

    def begin(self, texts: Sequence[str], *, tier: Tier | str | None = None) -> Refinable:
        """Vectors of a few texts that `refine` can raise to a larger tier later; texts that are too long are cut.

        Args:
            tier: the tier to begin with; None for the one that runs.

        Raises:
            TextError, EngineError: see `encode`.
        """
        self._check_usable()
        choice = self._runner.choice(self._track) if tier is None else self._choice_of(self._find(tier))
        tokens = self._tokenizer.tokenize(texts)
        if tokens.cut:
            self._warn(tokens.cut, len(texts))
        batches = pack(tokens.ids, pad_id=self._tokenizer.pad_id, lanes=LANES[choice.engine])
        return self._stepper.begin(batches, len(tokens.ids), choice.graph)

    def refine(self, first: Refinable, *, to: Tier | str, rows: Sequence[int] | None = None) -> Refinable:
        """Go on from a smaller tier's vectors to a larger one's, at the cost of the layers between them.

        The result is what the larger tier itself would give, to 1e-6.

        Args:
            first: what `begin` or `refine` gave.
            rows: which texts, in the order wanted; None for all.

        Raises:
            LadderError: no larger tier of that name.
            SpaceMismatch: they are of another bundle.
            TextError: rows that are not there.
        """
        self._check_usable()
        if first.vectors.space != self.space:
            raise SpaceMismatch(f"vectors of space {first.vectors.space!r} can't go on in {self.space!r}")
        return self._stepper.refine(first, self._find(to), rows)

    def stream(
        self,
        texts: Iterable[str],
        *,
        dtype: Dtype = "float32",
        long_texts: LongTexts = "truncate",
        chunk_texts: int = 1024,
    ) -> Iterator[Values]:
        """Vectors of any number of texts in constant memory: arrays of up to `chunk_texts` rows, in order, of one tier.

        Args:
            texts: read as they are needed.
            dtype, long_texts: see `encode`.
        """
        if isinstance(texts, str | bytes):
            check_texts(texts)
        if chunk_texts < 1:
            raise TextError(f"chunk_texts is {chunk_texts}: allowed is at least 1")
        self._check_usable()
        tier = self._runner.choice(self._track).tier
        source = iter(texts)
        while chunk := list(islice(source, chunk_texts)):
            yield self._documents(chunk, tier, dtype, long_texts).values

    async def aencode(
        self, texts: Sequence[str], *, dtype: Dtype = "float32", long_texts: LongTexts = "truncate"
    ) -> Values:
        """See `encode`; works in a thread, so that an event loop goes on, and ends soon after it was cancelled."""
        import asyncio  # most apps have no use for it

        stop = threading.Event()
        work = asyncio.get_running_loop().run_in_executor(
            None, lambda: self._documents(texts, None, dtype, long_texts, stop)
        )
        try:
            return (await work).values
        except asyncio.CancelledError:
            stop.set()
            raise

    def close(self) -> None:
        """Give the memory back, as soon as calls that are under way have ended; a second call does nothing."""
        self._closed = True
        if os.getpid() == self._process:
            self._runner.close()
            self._stepper.close()

    def __enter__(self) -> "Embedder":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _documents(
        self,
        texts: Sequence[str],
        tier: Tier | str | None,
        dtype: Dtype,
        long_texts: LongTexts,
        stop: threading.Event | None = None,
    ) -> VectorSet:
        self._check_usable()
        check_dtype(dtype)
        track = None if tier is not None else self._track
        choice = self._runner.choice(self._track) if tier is None else self._choice_of(self._find(tier))
        vectors = self._encode(texts, choice, track, long_texts, stop)
        ranges = self._ranges(choice.tier) if dtype == "int8" else None
        return VectorSet(convert(vectors, dtype, ranges), choice.tier, self.space, choice.tier.dim, dtype, ranges)

    def _encode(
        self,
        texts: Sequence[str],
        choice: Choice,
        track: Track | None,
        long_texts: LongTexts,
        stop: threading.Event | None = None,
    ) -> NDArray[np.float32]:
        with self._runner.call(choice, track=track, stop=stop) as call:
            vectors, cut = run_texts(texts, self._tokenizer, call, long_texts)
        if cut:
            self._warn(cut, len(texts))
        return vectors

    def _warn(self, cut: int, count: int) -> None:
        self.texts_cut += cut
        warnings.warn(
            f"{cut} of {count} texts are longer than {self._tokenizer.max_tokens} tokens: the rest of each was left "
            f"out; pass long_texts='split', or split them yourself",
            TextCut,
            stacklevel=_callers_level(),
        )

    def _query_track(self, documents: Tier, dim: int) -> Track:
        with self._lock:
            if (documents, dim) not in self._tracks:
                options = against(self._options, self._manifest.passport.cross, documents, dim)
                self._tracks[documents, dim] = self._runner.start(options)
            return self._tracks[documents, dim]

    def _choice_of(self, tier: Tier) -> Choice:
        running = self._track.running
        if running.tier == tier:
            return running
        if not any(option.tier == tier for option in self._options):
            raise LadderError(
                f"this embedder was opened for {running.tier} alone: open it without a tier to use {tier}"
            )
        return settle(tier, self._options, Budget(), "asked for by name")

    def _find(self, tier: Tier | str) -> Tier:
        return self._manifest.ladder.find(tier if isinstance(tier, str) else tier.canonical)

    def _ranges(self, tier: Tier) -> NDArray[np.float32]:
        return np.asarray(self._manifest.ranges[tier.name], dtype=np.float32)

    def _check_usable(self) -> None:
        if self._closed:
            raise EngineError("this embedder is closed: open the bundle again")
        if os.getpid() != self._process:
            raise EngineError(
                "this embedder was opened before a fork, and its threads stayed behind: open it again here"
            )


def _callers_level() -> int:
    """What `warnings.warn` in the function that asks takes for a warning at the line that called this module."""
    level, frame = 1, sys._getframe(1)
    while frame.f_code.co_filename == __file__ and frame.f_back is not None:
        level, frame = level + 1, frame.f_back
    return level
