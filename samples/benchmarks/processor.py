"""What this processor can do at most: products of matrices in int8 and in float32, each by its best library."""

import statistics

from peers import THREADS
from side_by_side import alternate

MATRIX, CALLS = (1024, 384, 1536), 200


def product_speeds(rounds: int) -> tuple[float, float]:
    """Gop/s in int8 and in float32."""
    import torch

    torch.set_num_threads(THREADS)
    rows, inner, columns = MATRIX
    whole = [torch.randint(-99, 99, shape, dtype=torch.int8) for shape in ((rows, inner), (inner, columns))]
    real = [matrix.float() for matrix in whole]
    jobs = [lambda: [torch._int_mm(*whole) for _ in range(CALLS)], lambda: [torch.mm(*real) for _ in range(CALLS)]]
    int8, float32 = (statistics.median(times) for times in alternate(jobs, rounds))
    return 2e-9 * rows * inner * columns * CALLS / int8, 2e-9 * rows * inner * columns * CALLS / float32
