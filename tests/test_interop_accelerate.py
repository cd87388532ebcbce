"""Models of PyTorch whose layers pycnn computes: what changes, which is the engine, and what does not."""

from __future__ import annotations

import copy
import io
import itertools
import pickle
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed")

from torch import nn  # noqa: E402

from pycnn.interop.torch import accelerate, acceleration, restore  # noqa: E402

Sides = dict[str, Callable[[], None]]


@pytest.fixture
def pycnn_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the clock would say."""
    _let_win(monkeypatch, "pycnn")


@pytest.fixture(autouse=True)
def _quick_comparisons(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of whole models: what they find does not matter here."""
    monkeypatch.setattr(acceleration, "_MODEL_SECONDS", 0.0)


@pytest.fixture
def torch_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    _let_win(monkeypatch, "torch")


def _let_win(monkeypatch: pytest.MonkeyPatch, winner: str) -> None:
    def timed(sides: Sides, turns: Sides | None = None, **how: Any) -> dict[str, float]:
        for name, side in sides.items():
            if turns is not None:
                turns[name]()
            side()
        return {name: 1.0 if name == winner else 2.0 for name in sides}

    monkeypatch.setattr(acceleration, "_timed", timed)


class Block(nn.Module):
    """Not a Sequential; with a sum, as in a ResNet, and a depthwise convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1, groups=channels, bias=False)
        self.norm = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Any) -> Any:
        return self.relu(self.norm(self.conv(x)) + x)


def network() -> Any:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(inplace=True), nn.MaxPool2d(2)),
        nn.Sequential(nn.Conv2d(8, 6, 3, padding=1, bias=False), nn.BatchNorm2d(6), nn.ReLU()),
        Block(6),
        nn.ConvTranspose2d(6, 4, 2, stride=2),
        nn.AvgPool2d(2),
        nn.Conv2d(4, 4, 3, padding="same", padding_mode="reflect"),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(16, 5),
    ).double()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_var, 0.5, 2)
            nn.init.normal_(module.running_mean)
            nn.init.normal_(module.weight)
            nn.init.normal_(module.bias)
    return model


def images(size: int = 8, batch: int = 2) -> Any:
    return torch.randn(batch, 3, size, size, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def steps(model: Any, count: int = 3) -> tuple[list[Any], Any]:
    """Losses of some steps of training, and the gradients of the last."""
    model.train()
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
    losses = []
    for _ in range(count):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(images()), torch.tensor([1, 3]))
        loss.backward()
        optimizer.step()
        losses.append(loss.detach())
    return losses, [p.grad for p in model.parameters()]


# Results.


@pytest.mark.usefixtures("pycnn_wins")
@pytest.mark.parametrize("form", [torch.contiguous_format, torch.channels_last])
def test_inference(form: Any) -> None:
    model = network().eval().to(memory_format=form)
    x = images().to(memory_format=form)
    expected = model(x)
    report = accelerate(model, example=x)
    with torch.inference_mode():
        torch.testing.assert_close(model(x), expected)
    with torch.no_grad():
        torch.testing.assert_close(model(x), expected)
    torch.testing.assert_close(model(x), expected)
    assert all(row.by_pycnn for row in report.rows)
    fused = {(row.name, row.what) for row in report.rows}
    assert ("0.0-2", "Conv2d + ReLU + MaxPool2d") in fused
    assert ("1.0-2", "Conv2d + BatchNorm2d + ReLU") in fused
    assert {row.what for row in report.rows} >= {"ConvTranspose2d", "AvgPool2d", "AdaptiveAvgPool2d", "BatchNorm2d"}


@pytest.mark.usefixtures("pycnn_wins")
@pytest.mark.parametrize("form", [torch.contiguous_format, torch.channels_last])
def test_training(form: Any) -> None:
    plain, model = network().to(memory_format=form), network().to(memory_format=form)
    accelerate(model)
    for one, other in zip(*(itertools.chain(*steps(each)) for each in (model, plain))):
        torch.testing.assert_close(one, other)
    for name, buffer in plain.named_buffers():
        torch.testing.assert_close(dict(model.named_buffers())[name], buffer)


@pytest.mark.usefixtures("pycnn_wins")
@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (lambda: nn.Conv1d(2, 3, 3, stride=2, dilation=2), (2, 2, 9)),
        (lambda: nn.Conv2d(2, 3, (3, 1), padding=(1, 0)), (2, 5, 5)),
        (lambda: nn.Conv3d(2, 4, 2, groups=2, padding=1, padding_mode="circular"), (1, 2, 4, 4, 4)),
        (lambda: nn.ConvTranspose1d(2, 3, 3, stride=2, output_padding=1), (2, 2, 5)),
        (lambda: nn.ConvTranspose3d(2, 3, 2), (1, 2, 3, 3, 3)),
        (lambda: nn.MaxPool1d(2), (2, 3, 7)),
        (lambda: nn.MaxPool2d(3, 2, 1, ceil_mode=True), (1, 2, 8, 8)),
        (lambda: nn.MaxPool2d(2, return_indices=True), (1, 2, 8, 8)),
        (lambda: nn.MaxPool3d(2, dilation=2), (1, 2, 5, 5, 5)),
        (lambda: nn.AvgPool1d(2, count_include_pad=False, padding=1), (1, 2, 8)),
        (lambda: nn.AvgPool2d(2, divisor_override=3), (1, 2, 8, 8)),
        (lambda: nn.AvgPool3d(2), (1, 2, 4, 4, 4)),
        (lambda: nn.AdaptiveAvgPool1d(3), (1, 2, 8)),
        (lambda: nn.AdaptiveMaxPool2d((2, 3), return_indices=True), (1, 2, 8, 8)),
        (lambda: nn.AdaptiveAvgPool3d((None, 2, 2)), (1, 2, 4, 4, 4)),
        (lambda: nn.BatchNorm1d(3), (4, 3)),
        (lambda: nn.BatchNorm2d(3, affine=False), (2, 3, 4, 4)),
        (lambda: nn.BatchNorm2d(3, track_running_stats=False), (2, 3, 4, 4)),
        (lambda: nn.BatchNorm3d(2, momentum=None), (2, 2, 3, 3, 3)),
    ],
)
@pytest.mark.parametrize("training", [False, True])
def test_layers(layer: Callable[[], Any], shape: tuple[int, ...], training: bool) -> None:
    torch.manual_seed(0)
    plain = layer().double().train(training)
    model = accelerated = copy.deepcopy(plain)
    accelerate(accelerated)
    forms = [torch.contiguous_format, *([torch.channels_last] if len(shape) == 4 else [])]
    for form in forms:
        found, right = [], []
        for each, into in ((model, found), (plain, right)):
            x = torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
            x = x.to(memory_format=form).requires_grad_()
            y = each(x)
            first, *rest = y if isinstance(y, tuple) else (y,)
            grads = torch.autograd.grad(first.square().sum(), [x, *each.parameters()])
            into += [first, *rest, *grads, *each.buffers()]
        for one, other in zip(found, right):
            torch.testing.assert_close(one, other)
        assert found[0].stride() == right[0].stride()


# Decisions.


@pytest.mark.usefixtures("torch_wins")
def test_what_pytorch_computes_faster_is_left_to_it() -> None:
    model = network().eval()
    expected = model(images())
    report = accelerate(model, example=images())
    assert torch.equal(model(images()), expected)
    assert report.rows
    assert not any(row.by_pycnn for row in report.rows)
    assert "pycnn takes 2.00 times as long" in str(report)
    assert not any("forward" in module.__dict__ for module in model.modules())  # given back altogether


@pytest.mark.usefixtures("pycnn_wins")
def test_an_example_in_evaluation_mode_is_called_without_gradients() -> None:
    report = accelerate(network().eval(), example=(images(),))
    assert report.rows
    assert not any(row.gradient for row in report.rows)
    assert "The model: 1000.000 ms accelerated, 2000.000 ms by PyTorch alone" in str(report)
    model = network().train()
    report = accelerate(model, example=images())
    assert all(row.gradient for row in report.rows)
    assert report.torch_ms == 2000
    assert all(weight.grad is None for weight in model.parameters())
    with torch.no_grad():
        model.eval()(images())
    assert accelerate(model).rows == report.rows  # twice is once
    assert {row.gradient for row in report.rows} == {True, False}


@pytest.mark.parametrize("training", [False, True])
def test_a_model_that_is_not_faster_as_a_whole_is_given_back(monkeypatch: pytest.MonkeyPatch, training: bool) -> None:
    winners = iter(["pycnn", "torch"])  # the layer, and then the model

    def timed(sides: Sides, turns: Sides | None = None, **how: Any) -> dict[str, float]:
        winner = next(winners)
        return {name: 1.0 if name == winner else 2.0 for name in sides}

    monkeypatch.setattr(acceleration, "_timed", timed)
    layer = nn.Conv2d(1, 1, 1).train(training)
    report = accelerate(layer, example=torch.zeros(1, 1, 2, 2))
    assert report.rows[0].by_pycnn
    assert report.rows[0].gradient == training
    assert "forward" not in layer.__dict__


def test_the_clock_decides() -> None:
    slow, quick = 0.004, 0.0005

    def side(seconds: float) -> Callable[[], None]:
        return lambda: acceleration.time.sleep(seconds)

    turns: list[str] = []
    ready = {name: partial(turns.append, name) for name in ("pycnn", "torch")}
    times = acceleration._timed({"pycnn": side(quick), "torch": side(slow)}, ready)
    assert times["pycnn"] < times["torch"]
    assert turns[:3] == ["pycnn", "torch", "pycnn"]


def test_a_comparison_lasts_as_long_as_it_shall() -> None:
    begin = acceleration.time.perf_counter()
    acceleration._timed({"pycnn": lambda: None, "torch": lambda: acceleration.time.sleep(0.001)}, seconds=0.3)
    assert 0.3 <= acceleration.time.perf_counter() - begin < 3


class WalksBack(nn.Module):
    """A model whose forward takes the gradients of its own loss."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 2, 3)

    def forward(self, x: Any) -> Any:
        loss = self.conv(x).square().mean()
        loss.backward()
        return loss


class Checkpointed(WalksBack):
    """A model that computes its layer anew for the gradient, in a way that allows no other gradients than all."""

    def forward(self, x: Any) -> Any:
        return torch.utils.checkpoint.checkpoint(self.conv, x, use_reentrant=True)


class OfNothing(WalksBack):
    """A model that returns nothing that has a gradient."""

    def forward(self, x: Any) -> Any:
        return self.conv(x).argmax(1)


@pytest.mark.usefixtures("pycnn_wins")
@pytest.mark.parametrize("kind", [WalksBack, Checkpointed, OfNothing])
def test_a_model_that_cannot_be_asked_for_gradients_keeps_what_its_layers_have_measured(kind: Any) -> None:
    model = kind().train()
    report = accelerate(model, example=torch.zeros(1, 1, 5, 5, requires_grad=True))
    assert report.torch_ms is None
    assert [row.by_pycnn for row in report.rows] == [True]
    assert "forward" in model.conv.__dict__


class Outputs(nn.Module):
    """Structures of tensors, some of which have no gradient."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 2, 3)
        self.calls = 0

    def forward(self, x: Any) -> Any:
        self.calls += 1
        y = self.conv(x)
        return {"maps": [y, (y * 2,)], "places": y.argmax(1), "name": "none"}


@pytest.mark.usefixtures("pycnn_wins")
def test_training_is_timed_forward_and_backward_and_leaves_no_trace() -> None:
    model, backward = Outputs(), []
    model.conv.weight.register_hook(backward.append)
    report = accelerate(model, example=torch.zeros(1, 1, 5, 5, requires_grad=True))
    # The layer by itself is tried once and measured on two sides, when the model is called forward alone.
    assert model.calls == len(backward) + 1 - 3 == 4
    assert report.pycnn_ms == 1000
    assert all(weight.grad is None for weight in model.parameters())


@pytest.mark.usefixtures("pycnn_wins")
def test_shapes_and_modes_are_measured_once_and_the_table_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(acceleration, "_MOST_SHAPES", 3)
    layer = nn.Conv2d(1, 1, 1)
    report = accelerate(layer)
    assert "nothing has been measured" in str(report)
    for size in (1, 2, 2, 3, 3, 4):
        layer(torch.zeros(1, 1, size, size))
    assert [row.shape[-1] for row in report.rows] == [2, 3, 4]
    with torch.no_grad():
        layer(torch.zeros(1, 1, 4, 4))
    assert [row.gradient for row in report.rows] == [True, True, False]
    assert "1x1x4x4" in str(report)


def test_what_pycnn_refuses_is_left_to_pytorch() -> None:
    layer = nn.Conv2d(2, 1, 1)
    report = accelerate(layer)
    with pytest.raises(RuntimeError):
        layer(torch.zeros(1, 1, 2, 2))  # and is PyTorch's error
    assert report.rows[0].reason.startswith("pycnn refuses")
    with pytest.raises(TypeError, match=r"must be a torch\.nn\.Module"):
        accelerate("model")


@pytest.mark.usefixtures("pycnn_wins")
def test_calls_that_are_not_for_pycnn() -> None:
    layer = nn.Conv2d(1, 1, 1)
    report = accelerate(layer)
    x = torch.ones(1, 1, 2, 2)
    with torch.autocast("cpu", torch.bfloat16):
        assert layer(x).dtype == torch.bfloat16
    traced = torch.jit.trace(layer, x)
    torch.testing.assert_close(traced(2 * x), layer(2 * x))
    assert torch.func.vmap(layer)(x[None]).shape == (1, 1, 1, 2, 2)
    layer(torch.empty(0, 1, 2, 2))
    assert layer.to("meta")(x.to("meta")).is_meta
    assert {row.shape for row in report.rows} == {(1, 1, 2, 2)}
    half = nn.Conv2d(1, 1, 1).half()
    report = accelerate(half)
    half(x.half())
    assert report.rows == []


# What stays as it is.


@pytest.mark.usefixtures("pycnn_wins")
def test_state_classes_and_restoring() -> None:
    model = network()
    state, text, classes = model.state_dict(), repr(model), [type(m) for m in model.modules()]
    attributes = [set(m.__dict__) for m in model.modules()]
    accelerate(model, example=images())
    assert list(model.state_dict()) == list(state)
    assert (repr(model), [type(m) for m in model.modules()]) == (text, classes)
    model.load_state_dict(network().state_dict())
    restore(model)
    assert [set(m.__dict__) for m in model.modules()] == attributes
    restore(model)


@pytest.mark.usefixtures("pycnn_wins")
def test_loaded_weights_are_seen() -> None:
    model, other = network().eval(), network().eval()
    accelerate(model, example=images())
    with torch.no_grad():
        for p in other.parameters():
            p.mul_(1.5)
    model.load_state_dict(other.state_dict())
    torch.testing.assert_close(model(images()), other(images()))
    for p, q in zip(model.parameters(), other.parameters()):
        p.data.mul_(0.5)
        q.data.mul_(0.5)
    torch.testing.assert_close(model(images()), other(images()))


@pytest.mark.usefixtures("pycnn_wins")
def test_hooks_see_what_they_would() -> None:
    model, plain = network().eval(), network().eval()
    accelerate(model, example=images())
    seen: list[list[Any]] = [[], []]
    for each, into in zip((model, plain), seen):
        for module in each.modules():
            module.register_forward_hook(lambda m, i, o, into=into: into.append(o.detach().clone()))
        each(images())
    assert len(seen[0]) == len(seen[1])
    for one, other in zip(*seen):
        torch.testing.assert_close(one, other)


@pytest.mark.usefixtures("pycnn_wins")
def test_hooks_may_change_results() -> None:
    model = network().eval()
    accelerate(model, example=images())
    handle = model[0][1].register_forward_pre_hook(lambda m, i: (torch.zeros_like(i[0]),))
    assert not model[0](images()).any()
    handle.remove()
    assert model[0](images()).any()
    grads: list[Any] = []
    model[1][0].register_full_backward_hook(lambda m, gi, go: grads.append(go[0]))
    model(images()).sum().backward()
    assert grads[0].shape == (2, 6, 4, 4)


@pytest.mark.usefixtures("pycnn_wins")
def test_a_container_may_change() -> None:
    model = network().eval()
    accelerate(model, example=images())
    model[0][1] = nn.Tanh()
    plain = network().eval()
    plain[0][1] = nn.Tanh()
    torch.testing.assert_close(model(images()), plain(images()))


@pytest.mark.usefixtures("pycnn_wins")
def test_a_deep_copy_is_accelerated_and_stands_alone() -> None:
    model = network().eval()
    accelerate(model, example=images())
    twin = copy.deepcopy(model)
    with torch.no_grad():
        for p in model.parameters():
            p.zero_()
    expected = network().eval()(images())
    del model
    torch.testing.assert_close(twin(images()), expected)
    assert isinstance(twin[0].forward, acceleration._Chain)
    restore(twin)
    torch.testing.assert_close(twin(images()), expected)


@pytest.mark.usefixtures("pycnn_wins")
@pytest.mark.parametrize("save", [torch.save, pickle.dump])
def test_a_saved_model_needs_no_pycnn(save: Callable[..., None], tmp_path: Any) -> None:
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.MaxPool2d(2)).eval()
    x = torch.ones(1, 1, 6, 6)
    accelerate(model, example=x)
    path = tmp_path / "model"
    with path.open("wb") as file:
        save(model, file)
    (tmp_path / "expected").write_text(repr(model(x).tolist()))
    load = "torch.load(f, weights_only=False)" if save is torch.save else "__import__('pickle').load(f)"
    code = (
        "import sys; sys.modules['pycnn'] = None; import torch\n"
        f"f = open({str(path)!r}, 'rb'); model = {load}\n"
        f"expected = torch.tensor(eval(open({str(tmp_path / 'expected')!r}).read()))\n"
        "torch.testing.assert_close(model(torch.ones(1, 1, 6, 6)), expected)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
    again = pickle.loads(pickle.dumps(model))
    accelerate(again)
    assert isinstance(again[0].forward, acceleration._Layer)
    torch.testing.assert_close(again(x), model(x))
    file = io.BytesIO()
    torch.save(model.state_dict(), file)
    file.seek(0)
    model.load_state_dict(torch.load(file, weights_only=True))


@pytest.mark.usefixtures("pycnn_wins")
def test_parametrisations_before_and_after() -> None:
    from torch.nn.utils import parametrizations, parametrize

    for order in ("before", "after"):
        torch.manual_seed(0)
        layer = nn.Conv2d(2, 3, 3)
        if order == "after":
            accelerate(layer)
        parametrizations.weight_norm(layer)
        with torch.no_grad():
            layer.parametrizations.weight.original0.mul_(2)
        if order == "before":
            accelerate(layer)
        x = torch.randn(1, 2, 5, 5)
        y = layer(x)
        torch.testing.assert_close(y, nn.functional.conv2d(x, layer.weight, layer.bias))
        y.sum().backward()
        assert layer.parametrizations.weight.original0.grad is not None
        restore(layer)
        assert "forward" not in layer.__dict__
        parametrize.remove_parametrizations(layer, "weight")


def test_foreign_forwards_are_left_alone() -> None:
    class Doubled(nn.Conv2d):
        def forward(self, input: Any) -> Any:
            return 2 * super().forward(input)

    layer, patched = Doubled(1, 1, 1), nn.Conv2d(1, 1, 1)
    patched.forward = forward = lambda x: x
    accelerate(nn.Sequential(layer, patched))
    assert "forward" not in layer.__dict__
    assert patched.forward is forward
    restore(patched)
    assert patched.forward is forward


@pytest.mark.usefixtures("pycnn_wins")
def test_a_module_dies_with_its_last_reference() -> None:
    import gc
    import weakref

    gc.disable()
    try:
        model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU())
        accelerate(model, example=torch.zeros(1, 1, 4, 4))
        conv = weakref.ref(model[0])
        del model
        assert conv() is None
    finally:
        gc.enable()


@pytest.mark.usefixtures("pycnn_wins")
def test_compiled_models_are_pytorchs() -> None:
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU())
    expected = model(torch.ones(1, 1, 4, 4))
    accelerate(model)
    compiled = torch.compile(model, backend="eager")
    torch.testing.assert_close(compiled(torch.ones(1, 1, 4, 4)), expected)


@pytest.mark.usefixtures("pycnn_wins")
def test_exported_models_are_pytorchs() -> None:
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU()).eval()
    x = torch.ones(1, 1, 4, 4)
    expected = model(x)
    accelerate(model, example=x)
    for strict in (False, True):
        torch.testing.assert_close(torch.export.export(model, (x,), strict=strict).module()(x), expected)
    with pytest.raises(AttributeError, match=r"call pycnn\.interop\.torch\.restore first"):
        torch.jit.script(model)
    restore(model)
    torch.testing.assert_close(torch.jit.script(model)(x), expected)


# Changes in place, statistics, and what else a measurement or a refusal must not touch.


@pytest.mark.usefixtures("pycnn_wins")
def test_a_result_that_is_changed_in_place_is_noticed() -> None:
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU())
    accelerate(model, example=torch.ones(1, 1, 4, 4))
    y = model(torch.ones(1, 1, 4, 4))
    y.sub_(10.0)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.sum().backward()


@pytest.mark.usefixtures("pycnn_wins")
@pytest.mark.parametrize("layer", [nn.Conv2d, nn.ConvTranspose2d])
def test_a_parametrised_weight_is_computed_once_a_call(layer: Any) -> None:
    from torch.nn.utils import parametrizations

    torch.manual_seed(0)
    plain = parametrizations.spectral_norm(layer(2, 3, 3))
    model = copy.deepcopy(plain)
    accelerate(model)
    for seed in range(3):
        x = torch.randn(1, 2, 5, 5, generator=torch.Generator().manual_seed(seed))
        torch.testing.assert_close(model(x), plain(x))
    for one, other in zip(model.buffers(), plain.buffers()):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("winner", ["pycnn", "torch"])
def test_a_measurement_does_not_touch_saved_statistics(winner: str, monkeypatch: pytest.MonkeyPatch) -> None:
    _let_win(monkeypatch, winner)
    model, plain = nn.BatchNorm2d(3).double(), nn.BatchNorm2d(3).double()
    accelerate(model)
    for each in (model, plain):
        (each(images(8)).square().sum() + each(images(9)).square().sum()).backward()
    for one, other in zip(model.state_dict().values(), plain.state_dict().values()):
        torch.testing.assert_close(one, other)
    torch.testing.assert_close(model.weight.grad, plain.weight.grad)


@pytest.mark.usefixtures("pycnn_wins")
def test_without_memory_pytorch_computes() -> None:
    import pycnn

    norm = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)).double()
    plain = copy.deepcopy(norm)
    report = accelerate(norm, example=images(64))
    assert all(row.by_pycnn for row in report.rows)
    before = pycnn.get_memory_limit()
    pycnn.set_memory_limit(1000)
    try:
        for size in (64, 65):  # measured, and not yet
            torch.testing.assert_close(norm(images(size)), plain(images(size)))
    finally:
        pycnn.set_memory_limit(before)
    for one, other in zip(norm.buffers(), plain.buffers()):
        torch.testing.assert_close(one, other)


@pytest.mark.usefixtures("pycnn_wins")
def test_an_example_leaves_no_trace() -> None:
    model = network().train()
    model.append(nn.Dropout())
    state = copy.deepcopy(model.state_dict())
    random = torch.random.get_rng_state()
    accelerate(model, example=images())
    for name, value in model.state_dict().items():
        assert torch.equal(value, state[name])
    assert torch.equal(torch.random.get_rng_state(), random)


@pytest.mark.usefixtures("pycnn_wins")
def test_an_example_that_the_model_refuses_leaves_it_as_it_was() -> None:
    model = network()
    with pytest.raises(RuntimeError):
        accelerate(model, example=torch.ones(1, 7, 8, 8, dtype=torch.float64))
    assert not any("forward" in module.__dict__ for module in model.modules())
    accelerate(model)
    forwards = [module.__dict__.get("forward") for module in model.modules()]
    with pytest.raises(RuntimeError):
        accelerate(model, example=torch.ones(1, 7, 8, 8, dtype=torch.float64))
    assert [module.__dict__.get("forward") for module in model.modules()] == forwards


@pytest.mark.usefixtures("pycnn_wins")
def test_forward_mode_is_pytorchs() -> None:
    from torch.autograd import forward_ad

    layer = nn.Conv2d(3, 2, 3).double()
    accelerate(layer, example=images())
    with forward_ad.dual_level():
        y = layer(forward_ad.make_dual(images(), torch.ones_like(images())))
        assert forward_ad.unpack_dual(y).tangent is not None


@pytest.mark.usefixtures("pycnn_wins")
@pytest.mark.parametrize("measured", [False, True])
@pytest.mark.parametrize("use_reentrant", [False, True])
def test_checkpoints(measured: bool, use_reentrant: bool) -> None:
    from torch.utils.checkpoint import checkpoint

    grads = []
    for accelerated in (True, False):
        model = network().eval()
        if accelerated:
            accelerate(model)
            if measured:
                model(images())
        x = images().requires_grad_()
        checkpoint(model, x, use_reentrant=use_reentrant).square().sum().backward()
        grads.append([x.grad, *(p.grad for p in model.parameters())])
    for one, other in zip(*grads):
        torch.testing.assert_close(one, other)
