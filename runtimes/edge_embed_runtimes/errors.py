"""Every error this project raises on purpose.

EdgeEmbedError
├── TextError            a text, or a list of texts, that can't be embedded
├── LadderError          a tier or a ladder that can't exist
├── EncoderError         an encoder that can't be found, trusted or used
├── CheckpointError      a checkpoint folder that is missing, damaged or foreign
├── DataError            a data file with a wrong row, or too little in it
├── RecipeError          a setting outside its range
├── BundleError          a bundle that can't be used
│   ├── BundleNotFound   nothing there, or an empty folder
│   ├── BundleDamaged    a missing, truncated, altered or extra file
│   └── BundleTooNew     written by a later version of the format
├── EngineError          an engine that can't load or run a graph
│   └── EngineMissing    the engine isn't installed
├── ExtraMissing         an optional part of edge-embed isn't installed
├── ProfileError         a profile that can't be read or made
├── BudgetError          a budget with a value outside its range
├── NoTierFits           a sound budget that no tier meets
├── VectorError          stored vectors that can't be read, or are not what they should be
│   └── SpaceMismatch    vectors of two spaces, which can't be compared
├── GateMissed           an exported tier that is too far from its float original
└── OutputError          a file or folder that can't be written
"""


class EdgeEmbedError(Exception):
    """Base of every error of this project: one `except` clause catches them all."""


class TextError(EdgeEmbedError, ValueError):
    """A text, or a list of texts, that can't be embedded."""


class LadderError(EdgeEmbedError, ValueError):
    """A tier or a ladder that can't exist."""


class EncoderError(EdgeEmbedError):
    """An encoder that can't be found, trusted or used."""


class EncoderUnsupported(EncoderError):
    """An encoder of a family that is not described here."""


class CheckpointError(EdgeEmbedError):
    """A checkpoint folder that is missing, damaged or foreign."""


class DataError(EdgeEmbedError, ValueError):
    """A data file with a wrong row, or too little in it."""


class RecipeError(EdgeEmbedError, ValueError):
    """A setting outside its range."""


class BundleError(EdgeEmbedError):
    """A bundle that can't be used."""


class BundleNotFound(BundleError):
    """There is no bundle at this place."""


class BundleDamaged(BundleError):
    """A file of the bundle is missing, truncated, altered, or was not written by the export."""


class BundleTooNew(BundleError):
    """The bundle was written in a later format than this version reads."""


class EngineError(EdgeEmbedError):
    """An engine that can't load or run a graph."""


class EngineMissing(EngineError):
    """The engine isn't installed."""


class ExtraMissing(EdgeEmbedError):
    """An optional part of edge-embed isn't installed."""


class ProfileError(EdgeEmbedError):
    """A profile that can't be read or made."""


class TraceError(EdgeEmbedError, ValueError):
    """A power trace that can't be read or played."""


class BudgetError(EdgeEmbedError, ValueError):
    """A budget with a value outside its range."""


class NoTierFits(EdgeEmbedError):
    """A sound budget that no tier meets; the message holds each tier's shortfall."""


class VectorError(EdgeEmbedError, ValueError):
    """Stored vectors that can't be read, or are not what they should be."""


class SpaceMismatch(VectorError):
    """Vectors of two spaces: their similarity would mean nothing."""


class GateMissed(EdgeEmbedError):
    """An exported tier is further from its float original than its gate allows."""


class OutputError(EdgeEmbedError):
    """A file or folder that can't be written."""
