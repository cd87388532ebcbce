"""Other engines, as sides of a comparison. Each maker returns None where the engine is not installed."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from bench.measure import Side
from bench.networks import has
from bench.shapes import Shape
from pycnn_kernels.plan import Plan, plan_for
from pycnn_kernels.problem import Layout

OPERATIONS = ("forward", "input gradient", "weight gradient")


def arrays(shape: Shape, seed: int = 0) -> tuple[np.ndarray, ...]:
    """x, w, b and dy in channels last and HWIO."""
    random = np.random.default_rng(seed)
    problem = shape.problem()
    x = random.standard_normal(problem.x_shape, np.float32)
    w = random.standard_normal(problem.w_shape, np.float32) / np.float32(np.sqrt(math.prod(problem.w_shape[:-1])))
    b = random.standard_normal(shape.K, np.float32)
    dy = random.standard_normal(problem.y_shape, np.float32)
    return x, w, b, dy


def channels_second(rank: int) -> tuple[int, ...]:
    """The order of axes that turns (N, *spatial, C) into (N, C, *spatial)."""
    return (0, rank + 1, *range(1, rank + 1))


def channels_at_end(rank: int) -> tuple[int, ...]:
    """And back."""
    return (0, *range(2, rank + 2), 1)


def taps_at_end(rank: int) -> tuple[int, ...]:
    """The order of axes that turns (*kernel, C / groups, K) into (K, C / groups, *kernel)."""
    return (rank + 1, rank, *range(rank))


def taps_first(rank: int) -> tuple[int, ...]:
    """And back."""
    return (*range(2, rank + 2), 1, 0)


#: What the engine calls the operations.
ENGINE_OPERATIONS = dict(zip(OPERATIONS, ("conv_forward", "conv_input_gradient", "conv_weight_gradient")))


def plan_of(operation: str, shape: Shape, algorithm: str = "auto", layout: Layout = "channels_last") -> Plan:
    """The plan of one of the three operations of a layer; the gradients are those in front of the bias."""
    problem = shape.problem(layout, "OIHW" if layout == "channels_first" else "HWIO")
    bias = operation == "forward"
    return plan_for(ENGINE_OPERATIONS[operation], problem._replace(bias=bias), algorithm=algorithm)


def pycnn_side(
    operation: str,
    shape: Shape,
    data: tuple[np.ndarray, ...],
    algorithm: str = "auto",
    layout: Layout = "channels_last",
) -> Side:
    """One operation through its plan, as the functional layer calls it; the result is channels last and HWIO."""
    plan = plan_of(operation, shape, algorithm, layout)
    x, w, b, dy = data
    if layout == "channels_first":
        x, dy = (np.ascontiguousarray(a.transpose(channels_second(shape.rank))) for a in (x, dy))
        w = np.ascontiguousarray(w.transpose(taps_at_end(shape.rank)))
    inputs = {"forward": (x, w, b), "input gradient": (dy, w), "weight gradient": (x, dy)}[operation]
    if layout == "channels_last":
        return lambda: plan.run(*inputs)[0]
    back = taps_first(shape.rank) if operation == "weight gradient" else channels_at_end(shape.rank)
    return lambda: plan.run(*inputs)[0].transpose(back)


def pycnn_sides(
    shape: Shape, data: tuple[np.ndarray, ...], algorithm: str = "auto", layout: Layout = "channels_last"
) -> dict[str, Side]:
    return {operation: pycnn_side(operation, shape, data, algorithm, layout) for operation in OPERATIONS}


def algorithms_chosen(shape: Shape) -> str:
    """What auto takes for the three operations; one name where it is the same."""
    names = [plan_of(operation, shape).algorithm.name for operation in OPERATIONS]
    return names[0] if len(set(names)) == 1 else ", ".join(names)


def torch_sides(shape: Shape, data: tuple[np.ndarray, ...], channels_last: bool) -> dict[str, Side] | None:
    """The same operations in PyTorch, in one of its two memory formats.

    Signals have but one in PyTorch; as images of one row they have the other, too.
    """
    if not has("torch"):
        return None
    import torch

    x, w, b, dy = data
    rank, padding = shape.rank, shape.axes(shape.padding)
    step, dilation = shape.axes(shape.stride), shape.axes(shape.dilation)
    as_images = rank == 1 and channels_last
    if as_images:
        x, w, dy = x[:, None], w[None], dy[:, None]
        rank, step, padding, dilation = 2, (1, *step), (0, *padding), (1, *dilation)
    formats = {2: torch.channels_last, 3: torch.channels_last_3d}
    form = formats[rank] if channels_last else torch.contiguous_format
    tx, tdy = (torch.from_numpy(a).permute(channels_second(rank)).contiguous(memory_format=form) for a in (x, dy))
    tw = torch.from_numpy(w).permute(taps_at_end(rank)).contiguous(memory_format=form)
    tb = torch.from_numpy(b)
    convolution = {1: torch.conv1d, 2: torch.conv2d, 3: torch.conv3d}[rank]
    to_end, to_first = channels_at_end(rank), taps_first(rank)

    def backward(wanted: list[bool]) -> Any:
        gradients = torch.ops.aten.convolution_backward(
            tdy, tx, tw, None, step, padding, dilation, False, [0] * rank, shape.groups, wanted
        )
        return next(g for g in gradients if g is not None)

    def channels_to_end(t: Any) -> np.ndarray:
        a = t.permute(to_end).numpy()
        return a[:, 0] if as_images else a

    def forward() -> np.ndarray:
        with torch.no_grad():
            return channels_to_end(convolution(tx, tw, tb, step, padding, dilation, shape.groups))

    def weight_gradient() -> np.ndarray:
        dw = backward([False, True, False]).permute(to_first).numpy()
        return dw[0] if as_images else dw

    return {
        "forward": forward,
        "input gradient": lambda: channels_to_end(backward([True, False, False])),
        "weight gradient": weight_gradient,
    }


def openvino_sides(shape: Shape, data: tuple[np.ndarray, ...], channels_last: bool) -> dict[str, Side] | None:
    """The forward operation as an OpenVINO model of one layer, its arrays in one of the two layouts."""
    if not has("openvino"):
        return None
    import openvino

    from pycnn import get_num_threads

    x, w, b, _ = data
    rank, G = shape.rank, shape.groups
    ops = openvino.opset13
    weights = np.ascontiguousarray(w.transpose(taps_at_end(rank)))
    source = ops.parameter(x.transpose(channels_second(rank)).shape, np.float32)
    sides = shape.axes(shape.padding)
    geometry = (shape.axes(shape.stride), sides, sides, shape.axes(shape.dilation))
    if G == 1:
        y = ops.convolution(source, ops.constant(weights), *geometry)
    else:
        of_groups = weights.reshape(G, shape.K // G, *weights.shape[1:])
        y = ops.group_convolution(source, ops.constant(of_groups), *geometry)
    model = openvino.Model([ops.add(y, ops.constant(b.reshape(1, -1, *[1] * rank)))], [source])
    if channels_last:
        form, inside = openvino.Layout("N" + "DHW"[3 - rank :] + "C"), openvino.Layout("NC" + "DHW"[3 - rank :])
        steps = openvino.preprocess.PrePostProcessor(model)
        steps.input().tensor().set_layout(form)
        steps.input().model().set_layout(inside)
        steps.output().tensor().set_layout(form)
        steps.output().model().set_layout(inside)
        model = steps.build()
    else:
        x = np.ascontiguousarray(x.transpose(channels_second(rank)))
    settings = {"INFERENCE_NUM_THREADS": get_num_threads(), "INFERENCE_PRECISION_HINT": "f32"}
    request = openvino.Core().compile_model(model, "CPU", settings).create_infer_request()
    to_end = channels_at_end(rank)

    def forward() -> np.ndarray:
        (y,) = request.infer([x], share_inputs=True, share_outputs=True).values()
        return y if channels_last else y.transpose(to_end)

    return {"forward": forward}


def conv_sides(shape: Shape, algorithm: str = "auto") -> dict[str, dict[str, Side]]:
    """For each installed engine, its operations on the same numbers; ours by the given algorithm."""
    data = arrays(shape)
    found = {"pycnn": pycnn_sides(shape, data, algorithm)}
    for engine, maker in (("torch", torch_sides), ("OpenVINO", openvino_sides)):
        for layout in ("first", "last"):
            sides = maker(shape, data, layout == "last")
            if sides is not None:
                found[f"{engine} channels {layout}"] = sides
    return found


def set_threads(n: int) -> None:
    """Keep every installed engine on ``n`` threads."""
    import pycnn

    pycnn.set_num_threads(n)
    if has("torch"):
        import torch

        torch.set_num_threads(n)
