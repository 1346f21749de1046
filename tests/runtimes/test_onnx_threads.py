"""What a session does while nobody calls it."""

import time

import numpy as np

from edge_embed_runtimes.engines import open_session


def test_an_idle_session_takes_no_processor_time(tiny_bundle):
    folder = tiny_bundle / "onnx-int8"
    session = open_session(folder / "tall.onnx", folder / "weights.bin", "onnx", threads=2)
    ids = np.full((4, 16), 7, dtype=np.int64)
    session.run(ids, np.ones_like(ids))
    time.sleep(0.1)
    began = time.process_time()
    time.sleep(0.5)
    assert time.process_time() - began < 0.1  # waiting in a loop without an end takes all of it
