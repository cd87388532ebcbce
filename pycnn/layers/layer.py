"""The base class of every layer."""

from __future__ import annotations

import inspect
import math
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pycnn import backend, changes, constraints, initializers, regularizers
from pycnn.autograd import no_grad
from pycnn.configuration import Configurable
from pycnn.layers import weight_limit
from pycnn.layers.arguments import choice
from pycnn.layers.auto_name import auto_name
from pycnn.layers.symbolic import KerasTensor, Node, is_symbolic
from pycnn.naming import from_description, nearest
from pycnn.shapes import Shape, any_batch, mapped_shapes
from pycnn.structures import is_structure, leaves, mapped
from pycnn.tensor import Tensor
from pycnn_kernels.problem import DTYPE_NAMES, STORAGE_DTYPES, numpy_dtype


class _Calls(threading.local):
    """How many layers of a thread are at work, each called by the one before, and what the last was called with."""

    depth = 0
    training: bool | None = None


_calls = _Calls()

#: The layers that hold what :meth:`Layer.add_loss` was given: without any there is nothing to look for. A set of its
#: own kind, as each call of a layer asks whether there are any: of a WeakSet that takes ten times as long.
_with_losses: set[weakref.ref[Layer]] = set()


class _Configured:
    """Another object after each attribute that was set on a layer of this package, whichever."""

    moment = object()

    @classmethod
    def anew(cls) -> None:
        cls.moment = object()


class Layer(Configurable):
    """A function of tensors with weights: the base class of all layers and models.

    A subclass defines ``call(inputs)`` or ``call(inputs, training=False)``. It may define ``build(input_shape)``, which
    makes weights with :meth:`add_weight`, and ``compute_output_shape(input_shape)``; without the latter the layer is
    called on zeros to find out. Layers among its attributes, and in lists and dictionaries of them, are its sublayers:
    their weights are its own. A layer is built once, by the first input shape that it meets.

    A layer of several inputs is called on a list, tuple or dictionary of tensors; ``build`` and
    ``compute_output_shape`` get their shapes in the same structure. Where ``call`` annotates ``inputs: Tensor``, the
    layer takes one tensor, and lists of tensors are refused.

    Args:
        activity_regularizer: name or function of the output, whose result, divided by the size of the batch, is added
            to the loss; see :mod:`pycnn.regularizers`.
        trainable: whether the weights take part in training.
        dtype: of weights and inputs, "float32" (the default), "float64", "float16" or "bfloat16". The last two are
            computed in float32, each result rounded once.
        autocast: whether inputs of other dtypes are cast.
        name: unique within a model; made from the class name by default (``dense``, ``dense_1``, ...).
        input_shape: shape of one sample, without the batch axis, when this is the first layer of a model.
        input_dim: the same for samples of one axis: ``input_shape=(input_dim,)``.

    Raises:
        ValueError: for an unknown argument (the message names the nearest), dtype, name or input shape.

    Source: the layer interface of Keras 3.

    >>> import numpy as np
    >>> class Doubling(Layer):
    ...     def call(self, inputs):
    ...         return inputs * 2.0
    >>> Doubling()(np.ones((1, 2))).numpy()
    array([[2., 2.]], dtype=float32)
    """

    _call_takes_training = False
    _training_by_default: bool | None = False
    _takes_one_tensor = False
    #: Whether a subclass has its layers elsewhere than among its attributes.
    _knows_its_layers = False
    #: Whether attributes say how the layer computes. Those of users' layers may be set in each call, and nobody but the
    #: layer reads them.
    _is_configured = True
    #: Whether it says itself what is trained, or what training adds to the loss or does after a step.
    _has_rules_of_its_own = False
    _NOT_CONFIGURED: tuple[str, ...] = ("autocast", "input_shape", "input_dim")
    _ALWAYS_CONFIGURED = ("name", "trainable", "dtype")

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        parameters = inspect.signature(cls.call).parameters
        cls._call_takes_training = "training" in parameters
        default = parameters["training"].default if cls._call_takes_training else False
        cls._training_by_default = None if default is None else default is not inspect.Parameter.empty and bool(default)
        cls._is_configured = cls.__module__.partition(".")[0] == __name__.partition(".")[0]
        cls._has_rules_of_its_own = any(getattr(cls, name) is not getattr(Layer, name) for name in _RULES)
        cls._takes_one_tensor = any(
            parameter.annotation in ("Tensor", Tensor) for parameter in list(parameters.values())[1:2]
        )

    def __init__(
        self,
        *,
        activity_regularizer: str | Callable[[Tensor], Tensor] | None = None,
        trainable: bool = True,
        dtype: str | None = None,
        autocast: bool = True,
        name: str | None = None,
        input_shape: Iterable[int | None] | None = None,
        input_dim: int | None = None,
        **unknown: Any,
    ) -> None:
        #: The names of the attributes in which there may be sublayers; see __setattr__.
        self._places: list[str]
        object.__setattr__(self, "_places", [])
        if unknown:
            raise ValueError(_unknown_argument(type(self), next(iter(unknown))))
        if name is not None and (not isinstance(name, str) or not name or "/" in name):
            raise ValueError(f"name: expected text without '/', received {name!r}")
        self.name = name or auto_name(type(self).__name__)
        self.dtype: str = choice(from_description(dtype) or "float32", ("float32", "float64", *STORAGE_DTYPES), "dtype")
        numpy_dtype(self.dtype)  # bfloat16 needs a package: its absence must not show at the first batch only
        self.autocast = bool(autocast)
        self.activity_regularizer = regularizers.get(activity_regularizer)
        self.built = False
        self._built_for: Shape | None = None
        self._trainable = bool(trainable)
        if input_dim is not None:
            input_shape = (input_dim,)
        self._declared_shape = None if input_shape is None else (None, *sample_shape(input_shape))
        self._trainable_weights: dict[str, Tensor] = {}
        self._non_trainable_weights: dict[str, Tensor] = {}
        self._regularizers: dict[str, regularizers.RegularizerFunction] = {}
        self._constraints: dict[str, constraints.ConstraintFunction] = {}
        self._losses: list[Tensor] = []
        #: The calls on symbolic tensors, in their order; those in a model are ``model.graph.nodes_of(layer)``.
        self._nodes: list[Node] = []
        #: The last input shape, its output shape, and the configuration of all layers for which that was found: one
        #: value, for threads may call at the same time.
        self._accepted: tuple[Any, Any, object] = None, (), None
        self._found_shapes: dict[str, Any] = {}
        self._places.clear()  # what was set above are no sublayers

    def __setattr__(self, name: str, value: Any) -> None:
        # Lists count even while they are empty: layers may be appended later.
        if isinstance(value, Layer | list | dict) or (type(value) is tuple and any(_layers_in(value))):
            places = self.places_of_sublayers()
            if name not in places:
                places.append(name)
        object.__setattr__(self, name, value)
        if self._is_configured and not name.startswith("_"):
            _Configured.anew()

    def __delattr__(self, name: str) -> None:
        object.__delattr__(self, name)
        if self._is_configured and not name.startswith("_"):
            _Configured.anew()

    def places_of_sublayers(self) -> list[str]:
        """The names of the attributes in which there may be sublayers: the list itself.

        Raises:
            RuntimeError: the constructor of a subclass has not called that of its base class yet.
        """
        try:
            places: list[str] = self.__dict__["_places"]
        except KeyError:
            raise RuntimeError(
                f"{type(self).__name__}.__init__ must call super().__init__() before it sets attributes"
            ) from None
        return places

    def __repr__(self) -> str:
        return f"<{type(self).__name__} name={self.name}, built={self.built}>"

    def __str__(self) -> str:
        return f"{type(self).__name__} '{self.name}'"

    # -- what a subclass defines ---------------------------------------------------------------------------

    def build(self, input_shape: Any) -> None:
        """Make the weights for inputs of ``input_shape``, whose first axis is the batch (None)."""

    def call(self, inputs: Any) -> Any:
        """The output for ``inputs``; a subclass may take a second argument ``training``."""
        raise NotImplementedError(f"{type(self).__name__} must define call(inputs)")

    def compute_output_shape(self, input_shape: Any) -> Any:
        """The output shape for an input shape, by default that of the output for a sample of zeros.

        Raises:
            ValueError: where the layer cannot take it, or, by default, for sizes that are not known.
        """
        key = str(input_shape)
        if key not in self._found_shapes:
            place = self._place_of(())
            samples = mapped_shapes(lambda shape: self._zeros(shape, place), input_shape)
            before = self._added_losses()
            with no_grad():
                outputs = self._called(samples, training=False)
            for layer in self._added_losses():
                del layer._losses[before.get(layer, 0) :]  # and not what the running step has added before
                if not layer._losses:
                    _with_losses.discard(weakref.ref(layer))
            batch = next(iter(leaves(input_shape)), None)
            self._found_shapes[key] = mapped(lambda output: (batch, *output.shape[1:]), outputs)
        return self._found_shapes[key]

    def _zeros(self, input_shape: Shape, place: backend.Backend | None) -> Tensor:
        if None in input_shape[1:]:
            raise ValueError(
                f"{self}: expected an input shape without None, received {input_shape}; or define "
                f"{type(self).__name__}.compute_output_shape(input_shape)"
            )
        return Tensor(np.zeros((1, *input_shape[1:]), numpy_dtype(self.dtype)), backend=place)

    # -- calling ---------------------------------------------------------------------------------------------

    def __call__(self, inputs: Any, training: bool | None = None) -> Any:
        """Apply the layer to a batch, building it first where that has not happened yet.

        Args:
            inputs: a tensor or an array, of the layer's dtype or cast to it; the first axis is the batch. For a layer
                of several inputs a list, tuple or dictionary of them. On symbolic tensors (:class:`KerasTensor`) the
                layer is built, and the call is recorded.
            training: whether dropout and the like are active. None is what the layer's ``call`` has as its default,
                False for most and True for those that change images at random; or, in the call of another layer, what
                that one was called with.

        Returns:
            The output, a tensor or a structure of them; for symbolic inputs a symbolic one.

        Raises:
            TypeError: the inputs are no numbers, or ``training`` is neither True nor False nor None.
            ValueError: the layer cannot take inputs of this shape, or they are lists of different lengths; or it takes
                one tensor, and got several.
        """
        if training is not None and not isinstance(training, bool | int | np.bool_):
            raise TypeError(
                f"{self}: expected training to be True, False or None, received {type(training).__name__}; a layer of "
                "several inputs takes a list, a tuple or a dictionary of them"
            )
        if type(inputs) is not Tensor and is_symbolic(inputs):
            return self._called_on_symbols(inputs, training)
        if _with_losses and not _calls.depth:
            self._clear_losses()
        _calls.depth += 1
        try:
            return self._called(self.accept(inputs), training)
        finally:
            _calls.depth -= 1

    def _called(self, x: Any, training: bool | None) -> Any:
        """The output for inputs that were accepted."""
        before = _calls.training
        training = before if training is None else bool(training)
        if training is None and self._call_takes_training:
            training = self._training_by_default
        _calls.training = training  # for the layers within, the layer's own default too
        try:
            if self._call_takes_training:
                y = self.call(x, training=training)  # type: ignore[call-arg]
            else:
                y = self.call(x)
        finally:
            _calls.training = before
        if self.activity_regularizer is not None:
            for output in leaves(y):
                self.add_loss(self.activity_regularizer(output) * (1 / max(len(output), 1)))
        return y

    def _called_on_symbols(self, inputs: Any, training: bool | None) -> Any:
        """The symbolic output for symbolic inputs; remembers the call."""
        if self._takes_one_tensor:
            self._refuse_several(inputs)
        shapes = self.build_for(self._shapes_of(inputs))
        outputs = self._symbols(shapes)
        Node(self, inputs, outputs, training)
        return outputs

    def _shapes_of(self, inputs: Any) -> Any:
        """The shapes of the inputs of a call on symbolic tensors."""
        return mapped(_shape_of_symbol, inputs)

    def _symbols(self, shapes: Any) -> Any:
        """Symbolic outputs of these shapes."""
        return mapped_shapes(lambda shape: KerasTensor(shape, self.dtype), shapes)

    def accept(self, inputs: Any) -> Any:
        """The inputs as ``call`` takes them; builds the layer where that has not happened yet.

        What is no tensor and on no GPU goes to the backend of the layer's weights, or without weights to the default.

        Raises:
            TypeError, ValueError: as calling the layer.
        """
        if not is_structure(inputs):
            ready = type(inputs) is Tensor and DTYPE_NAMES.get(inputs.data.dtype) == self.dtype  # as in most calls
            x = inputs if ready else self._accepted_tensor(inputs)
            self.accept_shape(x.data.shape)
            return x
        if self._takes_one_tensor:
            self._refuse_several(inputs)
        if self._takes_one_tensor or _holds_plain_numbers(inputs):
            return self.accept(Tensor(backend.asarray(inputs, "inputs", self._place_of(inputs))))
        accepted = mapped(self._accepted_tensor, inputs)
        self.accept_shape(mapped(lambda x: x.shape, accepted))
        return accepted

    def _accepted_tensor(self, inputs: Tensor | ArrayLike) -> Tensor:
        """A tensor of the layer's dtype, without a look at its shape."""
        x = inputs if isinstance(inputs, Tensor) else Tensor(backend.asarray(inputs, "inputs", self._place_of(inputs)))
        return x.astype(self.dtype) if x.dtype != self.dtype and self.autocast else x

    def _refuse_several(self, inputs: Any) -> None:
        tensors = [each for each in leaves(inputs) if isinstance(each, Tensor | KerasTensor)]
        if is_structure(inputs) and tensors:
            raise ValueError(
                f"{self}: expected one tensor, received a {type(inputs).__name__} of {len(tensors)}: "
                f"{', '.join(str(each.shape) for each in tensors)}. Concatenate, Add and their like make one of "
                "several"
            )

    def _place_of(self, inputs: ArrayLike) -> backend.Backend | None:
        weight = None if backend.is_on_gpu(inputs) else self._some_weight()
        return None if weight is None else weight.backend

    def _some_weight(self) -> Tensor | None:
        """One of the layer's weights, None where it has none."""
        for group in (self._trainable_weights, self._non_trainable_weights):
            for weight in group.values():
                return weight
        found = (layer._some_weight() for layer in self._sublayers())
        return next((weight for weight in found if weight is not None), None)

    def accept_shape(self, shape: Any) -> Any:
        """The output shape for inputs of ``shape``, its batch None; builds the layer as :meth:`accept` does.

        Raises:
            ValueError: when the layer cannot take inputs of this shape.
        """
        accepted, output, moment = self._accepted
        if shape != accepted or moment is not _Configured.moment:
            moment = _Configured.moment
            output = self.build_for(any_batch(shape))
            self._accepted = shape, output, moment
        return output

    def build_for(self, input_shape: Any) -> Any:
        """Build the layer unless it is built; return the output shape.

        Raises:
            ValueError: when the layer cannot take inputs of this shape.
        """
        if not self.built:
            self.build(input_shape)
            self.built = True
            self._built_for = input_shape
            self._build_sublayers(input_shape)
        return self.compute_output_shape(input_shape)

    def _build_sublayers(self, input_shape: Any) -> None:
        """Build the layers within, by calling this one on zeros: only ``call`` knows what they are called on.

        Nothing happens where sizes are not known; the first call on numbers builds them then.
        """
        if all(layer.built for layer in self._sublayers()) or None in leaves(mapped_shapes(_sample_sizes, input_shape)):
            return
        Layer.compute_output_shape(self, input_shape)

    # -- the graph that calls on symbolic tensors make -----------------------------------------------------------

    @property
    def input(self) -> Any:
        """The symbolic tensor that the layer was called on, or a list of them; where it was called again, the first.

        Raises:
            AttributeError: when it was never called on symbolic tensors.
        """
        return _one_or_list(self._first_call("input").inputs)

    @property
    def output(self) -> Any:
        """The symbolic tensor that the layer gave, or a list of them; where it was called again, the first.

        Raises:
            AttributeError: when it was never called on symbolic tensors.

        >>> from pycnn.layers import Dense, Input
        >>> layer = Dense(2)
        >>> layer(Input((3,))) is layer.output
        True
        """
        return _one_or_list(self._first_call("output").outputs)

    def _first_call(self, what: str) -> Node:
        if not self._nodes:
            raise AttributeError(
                f"{self} has no {what}: it was never called on a symbolic tensor, such as Input(...) gives, and is in "
                "no Sequential model of a known input shape"
            )
        return self._nodes[0]

    # -- weights ---------------------------------------------------------------------------------------------

    def add_weight(
        self,
        shape: Sequence[int] = (),
        initializer: str | Callable[..., Any] | None = None,
        dtype: str | None = None,
        trainable: bool = True,
        *,
        regularizer: str | Callable[[Tensor], Tensor] | None = None,
        constraint: str | Callable[[Tensor], Tensor] | None = None,
        name: str | None = None,
    ) -> Tensor:
        """Make a weight; it appears in :attr:`weights` in the order of making.

        Args:
            shape: its shape.
            initializer: a name or function of (shape, dtype); by default "glorot_uniform".
            dtype: by default that of the layer.
            trainable: whether it has a gradient.
            regularizer: name or function of the weight, whose result is added to the loss while it is trained.
            constraint: name or function that says what the weight becomes after each step of training.
            name: unique within the layer, for example "kernel"; by default "variable", "variable_1", ...

        Raises:
            ValueError: when the initializer gives another shape, or the layer has a weight of that name; for a name
                with "/", which stands between those of a layer and of a weight.
        """
        name = name or self._free_name("variable")
        if "/" in name:
            raise ValueError(f"{self}: expected the name of a weight without '/', received {name!r}")
        if name in self._trainable_weights or name in self._non_trainable_weights:
            raise ValueError(f"{self}: expected a weight with a name of its own, received a second {name!r}")
        fill = initializers.get("glorot_uniform" if initializer is None else initializer)
        shape, kind = tuple(shape), dtype or self.dtype
        if weight_limit.allows(shape, numpy_dtype(kind)):  # what a file has for it is put there at once
            values = np.zeros(shape, dtype=numpy_dtype(kind))
        else:
            values = np.array(fill(shape, dtype=kind), dtype=kind)  # a copy, for training changes it in place
        if values.shape != shape:
            raise ValueError(f"{self}: expected the initializer of {name} to give {shape}, received {values.shape}")
        weight = Tensor(values, requires_grad=trainable and self._trainable)
        group = self._trainable_weights if trainable else self._non_trainable_weights
        group[name] = weight
        if regularizer is not None:
            self._regularizers[name] = regularizers.get(regularizer)  # type: ignore[assignment]
        if constraint is not None:
            self._constraints[name] = constraints.get(constraint)  # type: ignore[assignment]
        return weight

    def _free_name(self, base: str) -> str:
        known = {*self._trainable_weights, *self._non_trainable_weights}
        names = (base if count == 0 else f"{base}_{count}" for count in range(len(known) + 1))
        return next(name for name in names if name not in known)

    def _read_rules(self, kind: str, initializer: Any, regularizer: Any, constraint: Any) -> None:
        """Keep, for the kind "kernel", ``kernel_initializer``, ``kernel_regularizer`` and ``kernel_constraint``.

        Raises:
            ValueError: for an unknown name.
        """
        setattr(self, f"{kind}_initializer", initializers.get(initializer))
        setattr(self, f"{kind}_regularizer", regularizers.get(regularizer))
        setattr(self, f"{kind}_constraint", constraints.get(constraint))

    def _add_by_rules(self, kind: str, shape: Sequence[int], name: str | None = None) -> Tensor:
        """Make a weight of a name, by default its kind, by what :meth:`_read_rules` has kept for the kind."""
        return self.add_weight(
            shape,
            getattr(self, f"{kind}_initializer"),
            regularizer=getattr(self, f"{kind}_regularizer"),
            constraint=getattr(self, f"{kind}_constraint"),
            name=name or kind,
        )

    def _sublayers(self) -> list[Layer]:
        """The layers among the attributes, each once, in the order of setting the attributes."""
        if not self._places:  # as in nearly every layer, and every step of training asks
            return []
        found = (layer for place in self._places for layer in _layers_in(self.__dict__.get(place)))
        return list(dict.fromkeys(found))

    @property
    def trainable(self) -> bool:
        """Whether the weights take part in training; setting it sets that of every sublayer."""
        return self._trainable

    @trainable.setter
    def trainable(self, value: bool) -> None:
        self._trainable = bool(value)
        _Configured.anew()
        for weight in self._trainable_weights.values():
            weight.requires_grad = self._trainable
        for layer in self._sublayers():
            layer.trainable = value

    def named_weights(self) -> dict[str, Tensor]:
        """Every weight by its name within the layer, in the order of :attr:`weights`.

        Those of a sublayer by ``layer/weight``, for example ``conv2d/kernel``.
        """
        named = self.own_weights()
        for layer in self._sublayers():
            named.update((f"{layer.name}/{name}", weight) for name, weight in layer.named_weights().items())
        return named

    def own_weights(self) -> dict[str, Tensor]:
        """The weights that the layer has itself, not those of its sublayers, by name: first those made for training."""
        return {**self._trainable_weights, **self._non_trainable_weights}

    @property
    def weights(self) -> list[Tensor]:
        """All weights: first those made for training, then the others, then those of sublayers, as in Keras."""
        own = [*self._trainable_weights.values(), *self._non_trainable_weights.values()]
        return _each_once(own, [layer.weights for layer in self._sublayers()])

    @property
    def trainable_weights(self) -> list[Tensor]:
        """The weights that training changes; none when :attr:`trainable` is False."""
        return Parts(self).trainable_weights

    @property
    def non_trainable_weights(self) -> list[Tensor]:
        """The weights that training leaves alone."""
        trained = set(map(id, self.trainable_weights))
        return [weight for weight in self.weights if id(weight) not in trained]

    def get_weights(self) -> list[NDArray[Any]]:
        """Copies of all weights, in the order of :attr:`weights`."""
        return [weight.detach().numpy().copy() for weight in self.weights]

    def to(self, place: str) -> Self:
        """Move all weights to a backend, "cpu" or "cuda", where the layer computes from then on; gradients are dropped.

        Returns:
            The layer itself.

        Raises:
            BackendError, ValueError: as :func:`pycnn.backend.get`; nothing has moved then.

        >>> from pycnn.layers import Dense
        >>> Dense(2, input_shape=(3,)).to("cpu").weights
        []
        """
        there = backend.get(place)
        for weight in self.weights:
            if weight.backend is not there:
                weight.data, weight.grad = there.asarray(backend.on_host(weight.data)), None
        return self

    def set_weights(self, weights: Sequence[ArrayLike]) -> None:
        """Overwrite all weights, in the order of :meth:`get_weights`.

        Raises:
            ValueError: when the number of arrays or one of their shapes differs; nothing is changed then.
        """
        targets = self.weights
        arrays = [backend.asarray(weight, "a weight", "cpu") for weight in weights]
        expected, received = [w.shape for w in targets], [a.shape for a in arrays]
        if expected != received:
            raise ValueError(f"{self}: expected weights of shapes {expected}, received {received}")
        for target, array in zip(targets, arrays):
            overwrite(target, array, "set_weights")

    # -- beside the loss -------------------------------------------------------------------------------------

    def add_loss(self, loss: Tensor) -> None:
        """Add a scalar to the loss of the batch at work; to be called inside ``call``.

        Raises:
            ValueError: when it is no tensor of one element.
        """
        if not isinstance(loss, Tensor) or loss.size != 1:
            raise ValueError(f"{self}: add_loss expected a tensor of one element, received {loss!r}")
        self._losses.append(loss)
        _with_losses.add(weakref.ref(self, _with_losses.discard))

    @property
    def losses(self) -> list[Tensor]:
        """What training adds to the loss: what the last call has added, and that of the weights' regularizers."""
        return Parts(self).losses

    def _added_losses(self, found: dict[Layer, int] | None = None) -> dict[Layer, int]:
        """How many losses this layer and each of those within have added in the running step."""
        found = {} if found is None else found
        if self not in found:
            found[self] = len(self._losses)
            for layer in self._sublayers():
                layer._added_losses(found)
        return found

    def _clear_losses(self) -> None:
        self._losses.clear()
        _with_losses.discard(weakref.ref(self))
        for layer in self._sublayers():
            layer._clear_losses()

    def apply_constraints(self) -> None:
        """Change each weight that is trained and has a constraint to what that says; training does so after a step."""
        Parts(self).apply_constraints()

    def count_params(self) -> int:
        """How many numbers the weights hold.

        Raises:
            ValueError: before the layer is built.
        """
        if not self.built:
            raise ValueError(f"{self} has no weights to count before it is built: call it, or give input_shape")
        return sum(math.prod(weight.shape) for weight in self.weights)

    @property
    def declared_input_shape(self) -> Shape | None:
        """The input shape that the layer was given, with the batch axis; None when it was given none."""
        return self._declared_shape

    # -- as a dictionary -------------------------------------------------------------------------------------

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments; a class of your own adds its own to ``super().get_config()``, as in Keras.

        Raises:
            NotImplementedError, TypeError: as :meth:`pycnn.configuration.Configurable.get_config`.

        >>> from pycnn.layers import Dense
        >>> config = Dense(3, activation="relu", name="scores").get_config()
        >>> config["name"], config["units"], config["activation"]
        ('scores', 3, 'relu')
        >>> Dense.from_config(config).units
        3
        """
        config = super().get_config()
        if "dtype" in config:
            policy = {"module": "keras", "class_name": "DTypePolicy", "config": {"name": self.dtype}}
            config["dtype"] = policy | {"registered_name": None}
        if config.get("activity_regularizer", "") is None:
            del config["activity_regularizer"]
        return config

    def get_build_config(self) -> dict[str, Any] | None:
        """The input shape that the layer was built for; None where it was not."""
        return None if self._built_for is None else {"input_shape": self._built_for}

    def build_from_config(self, config: dict[str, Any]) -> None:
        """Build the layer for the input shape that :meth:`get_build_config` has given.

        Raises:
            ValueError: when there is none, or the layer cannot take it.
        """
        shape = config.get("input_shape")
        if not isinstance(shape, list | tuple | dict) or not shape:
            raise ValueError(f"{self}: expected an input_shape to build for, received {config!r}")
        self.build_for(shape_from_config(shape))


def configuration() -> object:
    """The same object as before, if no attribute of a layer was set since: what was found out of them still holds.

    Names that begin with "_" do not count, nor do layers of users, which are called as they are.
    """
    return _Configured.moment


#: What a subclass may define anew, and :class:`Parts` asks it for then.
_RULES = ("trainable_weights", "losses", "apply_constraints")


class Parts:
    """What is in a layer, found in one walk: each step of training asks for all of it.

    A layer within that defines some of it itself is asked, and stands for those within it.

    Args:
        layer: a layer or a model.

    Attributes:
        layers: the layer itself and those within, each once.
        trained: those of them whose weights training changes, in the order of :attr:`Layer.trainable_weights`.
    """

    def __init__(self, layer: Layer) -> None:
        self.layers: dict[Layer, bool] = {}
        self._root = layer
        self._walk(layer, True)
        self.trained = [layer for layer, trained in self.layers.items() if trained]

    def _walk(self, layer: Layer, trained: bool) -> None:
        trained = trained and layer._trainable
        known = self.layers.get(layer)
        if known or known is trained:  # met before, and not just in a place where it is not trained
            return
        self.layers.pop(layer, None)
        self.layers[layer] = trained
        if layer._places or layer._knows_its_layers:  # few do
            trained = trained and not self._is_asked(layer)
            for each in layer._sublayers():
                self._walk(each, trained)

    def _is_asked(self, layer: Layer) -> bool:
        return layer._has_rules_of_its_own and layer is not self._root

    @property
    def trainable_weights(self) -> list[Tensor]:
        """See :attr:`Layer.trainable_weights`."""
        found: dict[int, Tensor] = {}  # each once: layers may share them
        for layer in self.trained:
            own = layer.trainable_weights if self._is_asked(layer) else layer._trainable_weights.values()
            found.update((id(weight), weight) for weight in own)
        return list(found.values())

    @property
    def losses(self) -> list[Tensor]:
        """See :attr:`Layer.losses`."""
        found: dict[int, Tensor] = {}
        if _with_losses:
            found.update((id(loss), loss) for layer in self.layers for loss in layer._losses)
        for layer in self.trained:
            if self._is_asked(layer):
                found.update((id(loss), loss) for loss in layer.losses)
            elif layer._regularizers:
                for name, regularizer in layer._regularizers.items():
                    if name in layer._trainable_weights:
                        loss = regularizer(layer._trainable_weights[name])
                        found[id(loss)] = loss
        return list(found.values())

    def drop_gradients(self) -> None:
        """Forget the gradients of all weights."""
        for layer in self.layers:
            for weights in (layer._trainable_weights, layer._non_trainable_weights):
                for weight in weights.values():
                    weight.grad = None

    def apply_constraints(self) -> None:
        """See :meth:`Layer.apply_constraints`."""
        for layer in self.trained:
            if self._is_asked(layer):
                layer.apply_constraints()
            elif layer._constraints:
                for name, constraint in layer._constraints.items():
                    weight = layer._trainable_weights.get(name)
                    if weight is not None:
                        with no_grad():
                            weight.data[...] = constraint(weight.detach()).data
                        changes.note(weight.data, "a constraint")


def running_training() -> bool | None:
    """What the layer at work in this thread was called with, or has as its default; None where nothing was said."""
    return _calls.training


def overwrite(weight: Tensor, values: NDArray[Any], by: str) -> None:
    """Put values of its shape into a weight, where it is; ``by`` says who, to results that depend on the old ones."""
    weight.data[...] = weight.backend.asarray(values)
    changes.note(weight.data, by)


def _sample_sizes(shape: Shape) -> list[int | None]:
    return list(shape[1:])


def _each_once(own: list[Tensor], below: list[list[Tensor]]) -> list[Tensor]:
    """A layer's own weights and those of its sublayers, each once: layers may be shared."""
    if not below:
        return own
    return list({id(weight): weight for weights in (own, *below) for weight in weights}.values())


def _layers_in(value: Any) -> Iterator[Layer]:
    """A layer, or those of a list, tuple or dictionary."""
    if isinstance(value, Layer):
        yield value
    elif isinstance(value, list | tuple):
        for each in value:
            yield from _layers_in(each)
    elif isinstance(value, dict):
        for each in value.values():
            yield from _layers_in(each)


def shape_from_config(shape: Any) -> Any:
    """A shape with its batch axis, or several, of which files hold lists.

    >>> shape_from_config([None, 4]), shape_from_config([[None, 4], [None, 3]])
    ((None, 4), [(None, 4), (None, 3)])
    >>> shape_from_config({"a": [None, 4]})
    {'a': (None, 4)}

    Raises:
        ValueError: for sizes that are no positive integers or None.
    """
    if isinstance(shape, dict):
        return {name: shape_from_config(part) for name, part in shape.items()}
    if any(is_structure(part) for part in shape):
        return [shape_from_config(part) for part in shape]
    return sample_shape(shape)


def sample_shape(shape: Iterable[int | None]) -> Shape:
    """``shape`` as the shape of one sample: positive integers, or None where unknown.

    Raises:
        ValueError: when it is anything else.
    """
    try:
        found = tuple(shape)
    except TypeError:
        found = (-1,)
    if not all(size is None or (isinstance(size, int | np.integer) and size > 0) for size in found):
        raise ValueError(
            f"input shape: expected positive integers for one sample, for example (32, 32, 3), received {shape!r}"
        )
    return tuple(None if size is None else int(size) for size in found)


def _shape_of_symbol(value: Any) -> Shape:
    """The shape of an input of a call on symbolic tensors.

    Raises:
        TypeError: for one that is not symbolic.
    """
    if not isinstance(value, KerasTensor):
        raise TypeError(f"expected only symbolic tensors beside a symbolic tensor, received {type(value).__name__}")
    return value.shape


def _one_or_list(tensors: list[KerasTensor]) -> Any:
    return tensors[0] if len(tensors) == 1 else list(tensors)


def _holds_plain_numbers(inputs: Any) -> bool:
    """Whether nested lists are one array, and not several."""
    found = leaves(inputs)
    return bool(found) and not isinstance(inputs, dict) and all(isinstance(each, bool | int | float) for each in found)


def _unknown_argument(layer: type[Layer], name: str) -> str:
    known = [
        parameter.name
        for method in (layer.__init__, Layer.__init__)
        for parameter in inspect.signature(method).parameters.values()
        if parameter.name != "self" and parameter.kind is not parameter.VAR_KEYWORD
    ]
    return (
        f"{layer.__name__} has no argument {name!r}.{nearest(name, known)} "
        f"Its arguments are: {', '.join(dict.fromkeys(known))}"
    )
