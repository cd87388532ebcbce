"""What all models share: compiling, training, evaluating, predicting."""

from __future__ import annotations

import functools
import inspect
import json
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from os import PathLike
from typing import Any, Self

from pycnn import optimizers
from pycnn.callbacks import Callback, History
from pycnn.layers.layer import Layer
from pycnn.metrics import Metric
from pycnn.models import training
from pycnn.models.objective import Objective
from pycnn.models.summary import print_summary
from pycnn.optimizers import Optimizer
from pycnn.shapes import Shape

#: Arguments of compile about how Keras computes, with the values that change nothing here.
_WITHOUT_EFFECT: dict[str, tuple[Any, ...]] = {
    "run_eagerly": (False, True),
    "steps_per_execution": (1,),
    "jit_compile": (False, True, "auto"),
    "auto_scale_loss": (True,),
}


def _remembering(compile: Callable[..., None]) -> Callable[..., None]:
    """``compile`` that keeps what it was given, if it could be taken."""

    @functools.wraps(compile)
    def remembered(self: Model, *args: Any, **kwargs: Any) -> None:
        given = inspect.signature(compile).bind(self, *args, **kwargs).arguments
        compile(self, *args, **kwargs)
        self._compiled_with = {name: value for name, value in given.items() if value is not self}

    return remembered


class Model(Layer):
    """A layer made of layers that can be trained: ``Model(inputs, outputs)``, or a class of your own.

    ``Model(inputs, outputs)`` is what lies between symbolic tensors, see :class:`pycnn.models.functional.Functional`.
    A subclass sets its layers as attributes and defines ``call``, as a :class:`pycnn.layers.Layer` does; or it gives
    inputs and outputs to the constructor of its base class. :class:`Sequential` is a plain stack of layers.

    Args:
        inputs, outputs: of a functional model; both or none of them.
        **kwargs: ``name``, ``trainable``, as for :class:`pycnn.layers.Layer`.

    Attributes:
        optimizer: set by :meth:`compile`.
        history: the :class:`pycnn.callbacks.History` of the last ``fit``, also of an interrupted one.
        stop_training: a callback sets it to end training after the running step, with which its epoch ends.
    """

    _knows_its_layers = True

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        """A functional model where this very class is given inputs and outputs."""
        if cls is Model and _are_inputs_and_outputs(args, kwargs):
            return super().__new__(_functional())  # type: ignore[return-value]
        return super().__new__(cls, *args, **kwargs)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        if _are_inputs_and_outputs(args, kwargs):
            _derive_from_functional(type(self))
            _functional().__init__(self, *args, **kwargs)
            return
        super().__init__(*args, **kwargs)
        self.optimizer: Optimizer | None = None
        self.history: History | None = None
        self.stop_training = False
        self._objective: Objective | None = None
        #: What compile() was given, by name.
        self._compiled_with: dict[str, Any] = {}

    # -- structure -------------------------------------------------------------------------------------------

    def build(self, input_shape: Shape) -> None:
        """Remember the input shape; the layers are built when they are first called."""
        self._declared_shape = input_shape

    @property
    def layers(self) -> list[Layer]:
        """The layers, in order: those among the attributes."""
        return super()._sublayers()

    @property
    def operations(self) -> list[Layer]:
        """The layers, and what arithmetic on symbolic tensors makes, in their order."""
        return self.layers

    @property
    def input_shape(self) -> Any:
        """The input shape, whose first axis is the batch.

        Raises:
            AttributeError: while it is unknown.
        """
        if self.declared_input_shape is None:
            raise AttributeError(f"{self} has no input shape before it is built")
        return self.declared_input_shape

    @property
    def output_shape(self) -> Any:
        """The output shape, whose first axis is the batch.

        Raises:
            AttributeError: while it is unknown.
        """
        return self.compute_output_shape(self.input_shape)

    def output_shapes(self) -> list[Any]:
        """The output shape of each of the :attr:`operations`; None where it is unknown."""
        return [None] * len(self.layers)

    def get_layer(self, name: str | None = None, index: int | None = None) -> Layer:
        """The layer of a name or position.

        Raises:
            ValueError: when there is none, or not exactly one of name and index is given.
        """
        if (name is None) == (index is None):
            raise ValueError(f"get_layer: expected either name or index, received {name!r} and {index!r}")
        for position, layer in enumerate(self.layers):
            if layer.name == name or position == index:
                return layer
        known = ", ".join(layer.name for layer in self.layers)
        raise ValueError(f"{self} has no layer {index if name is None else name!r}. Its layers: {known}")

    def _sublayers(self) -> list[Layer]:
        return self.layers

    def summary(
        self,
        line_length: int | None = None,
        positions: Sequence[float] | None = None,
        print_fn: Callable[[str], Any] | None = None,
        expand_nested: bool = False,
        show_trainable: bool = False,
        layer_range: Sequence[str] | None = None,
    ) -> None:
        """Print a table of the layers with output shapes and numbers of parameters.

        Where the layers are no plain stack, a column says what each is connected to: ``name[i][j]`` is output ``j`` of
        call ``i`` of a layer.

        Args:
            line_length: width of the table; by default 88, or 108 with connections, where the terminal is so wide.
            positions: where each column ends, as parts of the width.
            print_fn: called with the whole text instead of printing it.
            expand_nested: whether the layers of models among the layers are listed, too.
            show_trainable: whether a column says which layers are trained.
            layer_range: two names, or regular expressions that match them: the first and the last layer to list.

        Raises:
            ValueError: for columns of less than 4 characters, or a range that names no layers.
        """
        print_summary(self, line_length, positions, print_fn, expand_nested, show_trainable, layer_range)

    def to(self, place: str) -> Self:
        """Move the weights, and what the optimizer remembers of them, to a backend; see :meth:`Layer.to`."""
        if self.optimizer is None:
            return super().to(place)
        state = self.optimizer.state(self.weights)
        super().to(place)
        self.optimizer.set_state(self.weights, state)
        return self

    # -- training ----------------------------------------------------------------------------------------------

    @_remembering
    def compile(
        self,
        optimizer: str | Optimizer = "rmsprop",
        loss: Any = None,
        loss_weights: float | Sequence[float] | Mapping[str, float] | None = None,
        metrics: Any = None,
        weighted_metrics: Any = None,
        run_eagerly: bool = False,
        steps_per_execution: int = 1,
        jit_compile: bool | str = "auto",
        auto_scale_loss: bool = True,
    ) -> None:
        """Choose how the model is trained.

        With several outputs, the arguments hold an entry for each of them: in a list, or in a dictionary by the names
        of the outputs.

        Args:
            optimizer: a name ("adam", "sgd") or an object of :mod:`pycnn.optimizers`.
            loss: a name, function or object of :mod:`pycnn.losses`, or a function of (y_true, y_pred) of your own
                that returns one value per sample. One for all outputs, or one for each, None for an output without a
                loss. "crossentropy" is the binary, categorical or sparse categorical one, whichever suits the shapes of
                labels and output. None at all leaves what the layers add to the loss: see
                :meth:`pycnn.layers.Layer.add_loss`.
            loss_weights: what each output's loss is multiplied by in the sum that training minimises.
            metrics: a list of names, functions or objects of :mod:`pycnn.metrics`; for each of several outputs one, or
                a list. "accuracy" is binary, categorical or sparse categorical accuracy, whichever suits the shapes.
            weighted_metrics: the same, for metrics in which samples count with their weights.
            run_eagerly, jit_compile: without effect: every operation is a compiled kernel, run when it is called.
            steps_per_execution, auto_scale_loss: nothing but Keras' defaults is taken: callbacks are called at each
                step, and losses are not scaled.

        Raises:
            ValueError: for an unknown name (the message names the nearest), and for entries that do not match the
                outputs as far as these are known.

        Source: Keras 3, keras.Model.compile.
        """
        _check_without_effect(
            run_eagerly=run_eagerly,
            steps_per_execution=steps_per_execution,
            jit_compile=jit_compile,
            auto_scale_loss=auto_scale_loss,
        )
        found = optimizers.get(optimizer)
        self._objective = Objective(loss, loss_weights, metrics, weighted_metrics, self._names_of_outputs())
        self.optimizer = found

    @property
    def objective(self) -> Objective:
        """Loss and metrics with their running averages.

        Raises:
            RuntimeError: before :meth:`compile`.
        """
        if self._objective is None:
            raise RuntimeError(
                f"{self} has no loss yet: call compile(optimizer=..., loss=...) before training or evaluating it"
            )
        return self._objective

    @property
    def metrics(self) -> list[Metric]:
        """The metrics that :meth:`compile` was given, in the order in which :meth:`evaluate` returns them.

        What "accuracy" means is known only with the data: until then it is missing.
        """
        return [] if self._objective is None else self._objective.settled_metrics

    @property
    def metrics_names(self) -> list[str]:
        """The names of what :meth:`evaluate` returns."""
        return self.objective.names

    def reset_metrics(self) -> None:
        """Begin the averages of loss and metrics anew."""
        if self._objective is not None:
            self._objective.reset()

    def fit(
        self,
        x: Any = None,
        y: Any = None,
        batch_size: int | None = None,
        epochs: int = 1,
        verbose: int | str = "auto",
        callbacks: Iterable[Callback] | Callback | None = None,
        validation_split: float = 0.0,
        validation_data: Any = None,
        shuffle: bool | str = True,
        class_weight: Mapping[int, float] | None = None,
        sample_weight: Any = None,
        initial_epoch: int = 0,
        steps_per_epoch: int | None = None,
        validation_steps: int | None = None,
        validation_batch_size: int | None = None,
        validation_freq: int | Collection[int] = 1,
    ) -> History:
        """Train on arrays, or on batches as they come.

        Batches of arrays are gathered one at a time and converted to the model's dtype (float32), so that images may
        stay uint8; nothing is scaled. Ctrl-C ends training after the callbacks' ``on_train_end``: the weights learnt
        so far stay, and :attr:`history` holds the complete epochs.

        Args:
            x: samples, at least one, shape (n, ...) with the model's input shape behind the first axis, any
                numeric dtype; for several inputs a list of arrays, or a dictionary by the names of the inputs. Or what
                gives batches, each (x, y) or (x, y, sample_weight): an object with a length and items, such as
                :class:`pycnn.utils.PyDataset`; a generator or iterator, which goes on in each epoch where it was in
                the one before; anything else to iterate over, anew in each epoch.
            y: labels, n of them; see the loss. For several outputs a list, or a dictionary by the names of the outputs.
            batch_size: samples per step, None for 32; the last batch of an epoch may be smaller. What gives batches
                decides itself.
            epochs: the epoch to end before, counted from 0; without ``initial_epoch`` how many there are.
            verbose: 0 silent, 1 or "auto" a live bar (one line per epoch without a terminal), 2 one line per epoch.
            callbacks: objects of :mod:`pycnn.callbacks`.
            validation_split: part of the samples, in [0, 1), that is not trained on but evaluated after each
                epoch; taken from the end, before shuffling.
            validation_data: (x, y) or (x, y, sample_weight) to evaluate after each epoch, or what gives batches; takes
                precedence over the split.
            shuffle: whether each epoch has an order of its own, drawn from :func:`pycnn.random.generator`; "batch" for
                one within each batch only. Iterators keep theirs.
            class_weight: what the samples of a class count, by class number; 1 for a class that is left out. For one
                output with one-hot labels or class numbers.
            sample_weight: what each sample counts in the loss, shape (n,), or with more of the output's axes. For
                several outputs one array for all of them, or a list or dictionary as ``y``.
            initial_epoch: the number of the first epoch.
            steps_per_epoch: batches per epoch. None is all of them: without a size for the batches of an array they
                are made to be that many, and the epoch behind goes on behind them.
            validation_steps: batches per validation, each of which begins with the first.
            validation_batch_size: as ``batch_size``, which it is by default.
            validation_freq: epochs from one validation to the next, or the epochs, counted from 1, to validate after.

        Returns:
            The history: for each epoch the averages over samples of "loss", the metrics, and with validation
            data "val_loss" and so on. With several outputs that have losses, "loss" is their sum with the losses'
            weights, and "NAME_loss" is that of the output NAME, "NAME_accuracy" its metric.

        Raises:
            RuntimeError: before :meth:`compile`.
            ValueError: for shapes, lengths, labels or sizes that do not fit, and for no samples at all, before
                anything is computed; for those of a batch that was not there yet, before anything is computed with it.
            TypeError: for arrays that do not hold numbers, or callbacks that are no list of callbacks.

        Warns:
            UserWarning: when the batches end before the epochs or their steps do.

        Source: Keras 3, keras.Model.fit. There a generator that has ended begins again with its first two batches;
        here it ends the training. A generator without ``steps_per_epoch`` that ends with the last epoch is no
        reason for a warning here, nor is ``shuffle`` beside one.

        >>> import numpy as np
        >>> from pycnn.layers import Dense, Input
        >>> from pycnn.models import Sequential
        >>> model = Sequential([Input((2,)), Dense(1)])
        >>> model.compile(optimizer="sgd", loss="mse")
        >>> x = np.eye(2).repeat(8, axis=0)
        >>> history = model.fit(x, x[:, 0], epochs=3, verbose=0)
        >>> history.history["loss"][2] < history.history["loss"][0]
        True
        >>> batches = ((x[start : start + 4], x[start : start + 4, 0]) for start in (0, 4, 8, 12))
        >>> model.fit(batches, epochs=2, steps_per_epoch=2, verbose=0).epoch
        [0, 1]
        """
        return training.fit(
            self,
            x,
            y,
            batch_size=batch_size,
            epochs=epochs,
            verbose=verbose,
            callbacks=() if callbacks is None else callbacks,
            validation_split=validation_split,
            validation_data=validation_data,
            shuffle=shuffle,
            class_weight=class_weight,
            sample_weight=sample_weight,
            initial_epoch=initial_epoch,
            steps_per_epoch=steps_per_epoch,
            validation_steps=validation_steps,
            validation_batch_size=validation_batch_size,
            validation_freq=validation_freq,
        )

    def train_on_batch(
        self,
        x: Any,
        y: Any = None,
        sample_weight: Any = None,
        class_weight: Mapping[int, float] | None = None,
        return_dict: bool = False,
    ) -> float | list[float] | dict[str, float]:
        """One step of training on one batch of arrays.

        Args:
            x, y, sample_weight, class_weight: as for :meth:`fit`, arrays only.
            return_dict: return a dictionary by name instead of a list.

        Returns:
            Loss and metrics of this batch, before the step, as :meth:`evaluate` returns them.

        Raises:
            RuntimeError, ValueError, TypeError: as :meth:`fit`.
        """
        return training.results(training.train_on_batch(self, x, y, sample_weight, class_weight), return_dict)

    def test_on_batch(
        self, x: Any, y: Any = None, sample_weight: Any = None, return_dict: bool = False
    ) -> float | list[float] | dict[str, float]:
        """Loss and metrics on one batch of arrays, without training.

        Args:
            x, y, sample_weight, return_dict: as for :meth:`train_on_batch`.

        Returns:
            As :meth:`evaluate`.

        Raises:
            RuntimeError, ValueError, TypeError: as :meth:`fit`.
        """
        return training.results(training.test_on_batch(self, x, y, sample_weight), return_dict)

    def predict_on_batch(self, x: Any) -> Any:
        """The outputs for one batch of arrays, computed at once.

        Args:
            x: as for :meth:`fit`, arrays only.

        Returns:
            As :meth:`predict`.

        Raises:
            ValueError, TypeError: as :meth:`fit`.
        """
        return training.predict_on_batch(self, x)

    def evaluate(
        self,
        x: Any = None,
        y: Any = None,
        batch_size: int | None = None,
        verbose: int | str = "auto",
        sample_weight: Any = None,
        steps: int | None = None,
        callbacks: Iterable[Callback] | Callback | None = None,
        return_dict: bool = False,
    ) -> float | list[float] | dict[str, float]:
        """Loss and metrics, without training.

        Args:
            x, y, batch_size, verbose, sample_weight, callbacks: as for :meth:`fit`; of no samples at all there is no
                average, so at least one is needed here, too.
            steps: how many batches to evaluate; None is all of them.
            return_dict: return a dictionary by name instead of a list.

        Returns:
            [loss, metric, ...], or the loss alone when there are no metrics; a metric of several numbers, such as
            ``F1Score()``, is an array. With several outputs: their sum, the
            losses in the order of the outputs, the metrics in the order of their names.

        Raises:
            RuntimeError, ValueError, TypeError: as :meth:`fit`.

        Warns:
            UserWarning: when there are fewer batches than ``steps``.
        """
        logs = training.evaluate(
            self,
            x,
            y,
            batch_size=batch_size,
            verbose=verbose,
            sample_weight=sample_weight,
            steps=steps,
            callbacks=() if callbacks is None else callbacks,
        )
        return training.results(logs, return_dict)

    def predict(
        self,
        x: Any,
        batch_size: int | None = None,
        verbose: int | str = "auto",
        steps: int | None = None,
        callbacks: Iterable[Callback] | Callback | None = None,
    ) -> Any:
        """The outputs for samples, computed in batches.

        Args:
            x, batch_size, verbose, callbacks: as for :meth:`fit`; ``x`` may have no samples at all. Targets and weights
                in batches are left alone.
            steps: how many batches to compute; None is all of them.

        Returns:
            An array of shape (n, ...) with the model's output shape behind the first axis; for several outputs a list
            or a dictionary of arrays, as the model gives them.

        Raises:
            ValueError, TypeError: as :meth:`fit`.

        Warns:
            UserWarning: when there are fewer batches than ``steps``.
        """
        return training.predict(
            self,
            x,
            batch_size=batch_size,
            verbose=verbose,
            steps=steps,
            callbacks=() if callbacks is None else callbacks,
        )

    def _names_of_outputs(self) -> list[str] | None:
        """The names by which ``compile`` and ``fit`` know the outputs; None where only ``call`` knows what they are."""
        structure = getattr(self, "output_structure", None)
        return sorted(structure) if isinstance(structure, dict) else getattr(self, "output_names", None)

    # -- files -------------------------------------------------------------------------------------------------

    def save(self, filepath: str | PathLike[str], overwrite: bool = True) -> None:
        """Write the model into one file: architecture, weights, how it was compiled, and what training goes on from.

        The file appears under its name only when it is complete and on the disk: whatever happens before, an existing
        one stays whole. :func:`pycnn.models.load_model` reads it.

        Args:
            filepath: name of the file. ``model.pycnn`` is pycnn's own format, which needs no other package and has the
                state of the optimizer and of the random generators, so that training goes on with the same bits.
                ``model.keras`` is read by Keras; it has no such state.
            overwrite: whether an existing file is replaced.

        Raises:
            ValueError: for another ending, or before the model is built.
            TypeError, NotImplementedError: a layer, loss, metric or function of your own cannot be described; see
                :func:`pycnn.saving.serialize_keras_object`.
            FileExistsError: there is such a file, and it is not to be replaced.
            OSError: the file cannot be written.
            ModuleNotFoundError: a ``.keras`` file, and h5py is not installed.

        Source: Keras 3, keras.Model.save.

        >>> import tempfile
        >>> from pycnn.layers import Dense, Input
        >>> from pycnn.models import Sequential, load_model
        >>> model = Sequential([Input((3,)), Dense(2)])
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     model.save(f"{folder}/model.pycnn")
        ...     load_model(f"{folder}/model.pycnn").count_params()
        8
        """
        from pycnn.saving.model_files import save_model

        save_model(self, filepath, overwrite)

    def save_weights(self, filepath: str | PathLike[str], overwrite: bool = True) -> None:
        """Write the weights alone into a file, as safely as :meth:`save`.

        Args:
            filepath: name of the file: ``x.safetensors``, or ``x.weights.h5`` as Keras writes and reads it.
            overwrite: whether an existing file is replaced.

        Raises:
            ValueError, FileExistsError, OSError, ModuleNotFoundError: as :meth:`save`.
        """
        from pycnn.saving.weights import save_weights

        save_weights(self, filepath, overwrite)

    def load_weights(self, filepath: str | PathLike[str], skip_mismatch: bool = False, by_name: bool = False) -> None:
        """Read the weights from a file: all of them, or, where something does not fit, none.

        Layers are found by their place in the model, so that their names may differ.

        Args:
            filepath: a file of :meth:`save_weights` or :meth:`save`; of Keras, ``.weights.h5`` or ``.keras``; or of
                Keras 2, as the published weights of its applications.
            skip_mismatch: whether weights that are missing or of other shapes are left as they are, with a warning.
            by_name: in files of Keras 2, take the layers of the same names, and no others.

        Raises:
            InvalidFileError: the file is damaged, or is not of this model; the message names what does not fit. It is a
                ValueError, and nothing has been changed. So it is for ``by_name=True`` and a file without names.
            ValueError: before the model is built.
            FileNotFoundError: there is no such file.
            ModuleNotFoundError: an HDF5 file, and h5py is not installed.

        Source: Keras 3, keras.Model.load_weights.

        >>> import tempfile
        >>> from pycnn.layers import Dense, Input
        >>> from pycnn.models import Sequential
        >>> first, second = (Sequential([Input((3,)), Dense(2)]) for _ in range(2))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     first.save_weights(f"{folder}/x.safetensors")
        ...     second.load_weights(f"{folder}/x.safetensors")
        >>> bool((first.get_weights()[0] == second.get_weights()[0]).all())
        True
        """
        from pycnn.saving.weights import load_weights

        load_weights(self, filepath, skip_mismatch, by_name)

    def to_json(self, **kwargs: Any) -> str:
        """The architecture as text in JSON, as in Keras; :func:`pycnn.models.model_from_json` reads it.

        Args:
            **kwargs: for ``json.dumps``, such as ``indent=2``.

        Raises:
            TypeError, NotImplementedError: as :meth:`save`.

        >>> from pycnn.layers import Dense, Input
        >>> from pycnn.models import Sequential
        >>> json.loads(Sequential([Input((3,)), Dense(2)]).to_json())["class_name"]
        'Sequential'
        """
        from pycnn.saving.serialization import serialize_keras_object, sharing_objects

        with sharing_objects():
            return json.dumps(serialize_keras_object(self), **kwargs)

    def get_compile_config(self) -> dict[str, Any]:
        """What :meth:`compile` was given, the optimizer as an object; empty before."""
        return {} if self.optimizer is None else {**self._compiled_with, "optimizer": self.optimizer}

    def compile_from_config(self, config: dict[str, Any]) -> None:
        """Compile the model as :meth:`get_compile_config` says, or Keras'.

        Raises:
            ValueError, TypeError: it asks for something that is not there.
        """
        from pycnn.saving.serialization import deserialize_keras_object

        given = {name: deserialize_keras_object(value) for name, value in config.items()}
        known = inspect.signature(self.compile).parameters
        for name in set(given) - set(known):
            if name not in _WITHOUT_EFFECT:
                raise ValueError(f"{self}: compile has no argument {name!r} for {config[name]!r}")
            _check_without_effect(**{name: given.pop(name)})
        self.compile(**given)

    def _forget_compiled_shapes(self) -> None:
        """The output may have another shape now, and "accuracy" may be another metric."""
        if self._objective is not None:
            self._objective.forget_shapes()


def _check_without_effect(**given: Any) -> None:
    for name, value in given.items():
        if value not in _WITHOUT_EFFECT[name]:
            expected = " or ".join(map(repr, _WITHOUT_EFFECT[name]))
            raise ValueError(f"{name}: expected {expected}, the values that change nothing; received {value!r}")


def _are_inputs_and_outputs(args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Whether these arguments are those of a functional model."""
    return len(args) >= 2 or "outputs" in kwargs


def _functional() -> type[Model]:
    from pycnn.models.functional import Functional  # which derives from Model

    return Functional


def _derive_from_functional(kind: type[Model]) -> None:
    """Put the functional model in the place of Model among the bases of a subclass that gives inputs and outputs."""
    functional = _functional()
    if not issubclass(kind, functional):
        bases = []
        for base in kind.__bases__:
            if base is not Model and issubclass(base, Model):
                _derive_from_functional(base)
            bases.append(functional if base is Model else base)
        kind.__bases__ = tuple(bases)
