"""Where a training step's time goes: ``python -m bench.profile "CIFAR-10"``, or all documented networks.

The engine's operations are timed as they are called; the rest of the step is Python and NumPy.
"""

from __future__ import annotations

import argparse
import time
from collections import defaultdict
from typing import Any

import numpy as np

from bench.networks import NETWORKS, pycnn_engine, read_trained
from pycnn_kernels.plan import Plan

#: Operations that are convolutions, with what is done to their results in the cache, or products of matrices.
ARITHMETIC = (
    "conv_forward", "conv_input_gradient", "conv_weight_gradient", "conv_max_pool", "conv_max_pool_weight_gradient"
)  # fmt: skip


def profile(network: str, steps: int = 30) -> dict[str, float]:
    """Median milliseconds of each operation in a step, of the rest, and of the step as a whole."""
    step, _ = pycnn_engine(NETWORKS[network])
    for _ in range(3):
        step()
    run = Plan.run
    spent: dict[str, float] = defaultdict(float)

    def timed(plan: Plan, *inputs: Any, **options: Any) -> Any:
        begin = time.perf_counter()
        found = run(plan, *inputs, **options)
        spent[plan.operation] += time.perf_counter() - begin
        return found

    found: list[dict[str, float]] = []
    Plan.run = timed  # type: ignore[method-assign]
    try:
        for _ in range(steps):
            spent.clear()
            begin = time.perf_counter()
            step()
            whole = time.perf_counter() - begin
            found.append({**spent, "rest": whole - sum(spent.values()), "step": whole})
    finally:
        Plan.run = run  # type: ignore[method-assign]
    return {name: float(np.median([each[name] for each in found])) * 1e3 for name in found[0]}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.profile", description=__doc__)
    for network in read_trained(parser).network:
        times = profile(network)
        print(f"\n{network}: {times['step']:.2f} ms a step")
        for name, milliseconds in sorted(times.items(), key=lambda item: -item[1]):
            if name != "step":
                print(f"  {name:28s} {milliseconds:8.2f} ms {100 * milliseconds / times['step']:5.1f} %")
        share = sum(times.get(name, 0) for name in ARITHMETIC) / times["step"]
        print(f"  {100 * share:.0f} % is convolution and matrix arithmetic")


if __name__ == "__main__":
    main()
