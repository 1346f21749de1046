"""Imports OpenVINO without the two parts that take most of the time, or call out.

Its converter takes two thirds of the import, and the usage events that it sends would go over the network. The
converter comes when it is first called; the sender never does: None makes OpenVINO's own import of it fail softly.
"""

import sys
from typing import Any

_CONVERTER = "openvino.tools.ovc"
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
_is_first = "openvino" not in sys.modules
if _is_first:
    sys.modules[_CONVERTER] = None  # type: ignore[assignment]
try:
    import openvino
finally:
    if _is_first:
        del sys.modules[_CONVERTER]


def _convert_model(*args: Any, **named: Any) -> openvino.Model:
    """See `openvino.convert_model`, whose place this takes until its first call."""
    from openvino.tools.ovc import convert_model

    openvino.convert_model = convert_model
    return convert_model(*args, **named)


if _is_first:
    openvino.convert_model = _convert_model

__all__ = ["openvino"]
