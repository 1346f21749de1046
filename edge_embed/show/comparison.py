"""Profiles of several devices beside each other."""

from collections.abc import Mapping

from edge_embed.show.table import print_table
from edge_embed_runtimes.device.measure import Cost
from edge_embed_runtimes.device.profile import DeviceProfile


def print_comparison(profiles: Mapping[str, DeviceProfile]) -> None:
    """Print the median time of each call on each device, and how many times that of the first device it is."""
    alone = all(len(profile.threads) == 1 for profile in profiles.values())
    times = {name: {_key(cost, alone): cost.latency_ms.p50 for cost in p.costs} for name, p in profiles.items()}
    first, *_ = times.values()
    rows = []
    for key in dict.fromkeys(key for found in times.values() for key in found):
        cells = [_cell(found.get(key), None if found is first else first.get(key)) for found in times.values()]
        rows.append([*key, *cells])
    columns = ["tier", "graph", "tokens\nx texts", *([] if alone else ["threads"]), *profiles]
    print_table("median time of a call, ms", columns, rows)
    print_table(
        "the devices",
        ["", "processor", "threads", "power", "made"],
        [
            [name, one.device.cpu, ", ".join(map(str, one.threads)), one.power_source, _made(one)]
            for name, one in profiles.items()
        ],
    )


def _key(cost: Cost, alone: bool) -> tuple[str, ...]:
    """What is compared with what; where each device was measured with one number of threads, that may differ."""
    key = (cost.tier, f"{cost.engine} {cost.precision}", f"{cost.tokens} x {cost.batch}")
    return key if alone else (*key, str(cost.threads))


def _cell(ms: float | None, first_ms: float | None) -> str:
    if ms is None:
        return ""
    return f"{ms:.2f}" if first_ms is None else f"{ms:.2f} ({ms / first_ms:.2f}x)"


def _made(profile: DeviceProfile) -> str:
    return ", ".join(filter(None, (profile.made_at, "quick" * profile.quick, "unstable" * (not profile.stable))))
