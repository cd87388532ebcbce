"""The GPU's tests: on a simulated one, or with PYCNN_TEST_GPU=1 on the one that there is."""

from __future__ import annotations

import importlib.util
import os
import zlib
from collections.abc import Iterator
from typing import Any

import pytest

from pycnn_kernels import plan as plan_module
from pycnn_kernels.cuda import device as device_module

ON_A_GPU = bool(os.environ.get("PYCNN_TEST_GPU"))

_NEEDED = {"numba_cuda": "numba-cuda", "cupy": "cupy", "greenlet": "greenlet"}
_MISSING = [package for module, package in _NEEDED.items() if importlib.util.find_spec(module) is None]
#: Test files cannot be imported without these packages; ``test_cuda_missing.py`` says so where they are not there.
collect_ignore_glob = ["test_*_cuda.py"] if _MISSING else []


#: Architectures for which all variants that the tests have launched are compiled in the end, with commas between them.
COMPILED_FOR = [name for name in os.environ.get("PYCNN_TEST_COMPILE", "").split(",") if name]


@pytest.fixture(scope="session", autouse=not _MISSING)
def _all_launched_can_be_compiled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What the simulated GPU has run is machine code, too: of each kernel one variant for sm_90a.

    With PYCNN_TEST_COMPILE every variant for the architectures that it names.
    """
    yield
    from tests.cuda.sass import disassembler, faults_of_launched

    if COMPILED_FOR or (disassembler() and not ON_A_GPU):
        ours = tmp_path_factory.getbasetemp()
        claims = (ours.parent if "PYTEST_XDIST_WORKER" in os.environ else ours) / "compiled"
        claims.mkdir(exist_ok=True)
        faults = faults_of_launched(COMPILED_FOR or ["sm_90a"], claims, one_each=not COMPILED_FOR)
        assert not faults, "\n".join(faults)


#: In which a simulated GPU runs the threads of a block. A race shows in one of them.
ORDERS = ("upwards", "downwards")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Each test in one of the two orders, half of them in each; in both with PYCNN_TEST_BOTH_ORDERS."""
    if os.environ.get("PYCNN_TEST_BOTH_ORDERS"):
        return
    names = {item.nodeid for item in items}

    def is_left_out(item: pytest.Item) -> bool:
        for order, other in (ORDERS, ORDERS[::-1]):
            test = item.nodeid.replace(order, "*")
            if order in item.nodeid and test.replace("*", other) in names:
                return order == ORDERS[zlib.crc32(test.encode()) % 2]
        return False

    left_out = [item for item in items if is_left_out(item)]
    config.hook.pytest_deselected(items=left_out)
    items[:] = [item for item in items if not is_left_out(item)]


@pytest.fixture(params=[1] if ON_A_GPU else [1, -1], ids=["gpu"] if ON_A_GPU else ORDERS)
def device(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The device that plans run on: simulated ones run the threads of a block in this order."""
    if not ON_A_GPU:
        from tests.cuda.simulation import SimulatedDevice

        simulated = SimulatedDevice(request.param)
        monkeypatch.setattr(device_module, "_current", lambda: simulated)
    elif os.environ.get("PYCNN_TEST_SANITIZER"):
        # Each array in memory of its own: in CuPy's pool, what lies outside of one is inside of another.
        device_module.current_device().xp.cuda.set_allocator(None)
    plan_module._plans.clear()
    yield device_module.current_device()
    plan_module._plans.clear()
