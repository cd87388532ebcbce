"""What all models share: compiling, training, evaluating, predicting."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

from pycnn import optimizers
from pycnn.callbacks import Callback, History
from pycnn.layers.layer import Layer
from pycnn.models import training
from pycnn.models.objective import Objective
from pycnn.models.summary import print_summary
from pycnn.optimizers import Optimizer
from pycnn.shapes import Shape


class Model(Layer):
    """A layer made of layers that can be trained. Use :class:`Sequential`, or derive a class of your own.

    A subclass sets its layers as attributes and defines ``call``, as a :class:`pycnn.layers.Layer` does.

    Attributes:
        optimizer: set by :meth:`compile`.
        history: the :class:`pycnn.callbacks.History` of the last ``fit``, also of an interrupted one.
        stop_training: a callback sets it to end training after the running step, with which its epoch ends.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.optimizer: Optimizer | None = None
        self.history: History | None = None
        self.stop_training = False
        self._objective: Objective | None = None

    # -- structure -------------------------------------------------------------------------------------------

    def build(self, input_shape: Shape) -> None:
        """Remember the input shape; the layers are built when they are first called."""
        self._declared_shape = input_shape

    @property
    def layers(self) -> list[Layer]:
        """The layers, in order: those among the attributes."""
        return super()._sublayers()

    @property
    def input_shape(self) -> Shape:
        """The input shape, whose first axis is the batch.

        Raises:
            AttributeError: while it is unknown.
        """
        if self.declared_input_shape is None:
            raise AttributeError(f"{self} has no input shape before it is built")
        return self.declared_input_shape

    @property
    def output_shape(self) -> Shape:
        """The output shape, whose first axis is the batch.

        Raises:
            AttributeError: while it is unknown.
        """
        return self.compute_output_shape(self.input_shape)

    def output_shapes(self) -> list[Shape | None]:
        """The output shape of each layer; None where it is unknown."""
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

    def summary(self, print_fn: Callable[[str], Any] | None = None) -> None:
        """Print a table of the layers with output shapes and numbers of parameters.

        Args:
            print_fn: called with the whole text instead of printing it.
        """
        print_summary(self, print_fn)

    # -- training ----------------------------------------------------------------------------------------------

    def compile(
        self,
        optimizer: str | Optimizer = "adam",
        loss: Any = None,
        loss_weights: float | Sequence[float] | Mapping[str, float] | None = None,
        metrics: Any = None,
        weighted_metrics: Any = None,
    ) -> None:
        """Choose how the model is trained.

        With several outputs, the arguments hold an entry for each of them: in a list, or in a dictionary by the names
        of the outputs.

        Args:
            optimizer: a name ("adam", "sgd") or an object of :mod:`pycnn.optimizers`. The default is "adam";
                Keras' default, "rmsprop", is not there yet.
            loss: a name, function or object of :mod:`pycnn.losses`, or a function of (y_true, y_pred) of your own
                that returns one value per sample. One for all outputs, or one for each, None for an output without a
                loss. "crossentropy" is the binary, categorical or sparse categorical one, whichever suits the shapes of
                labels and output. None at all leaves what the layers add to the loss: see
                :meth:`pycnn.layers.Layer.add_loss`.
            loss_weights: what each output's loss is multiplied by in the sum that training minimises.
            metrics: a list of names, functions or objects of :mod:`pycnn.metrics`; for each of several outputs one, or
                a list. "accuracy" is binary, categorical or sparse categorical accuracy, whichever suits the shapes.
            weighted_metrics: the same, for metrics in which samples count with their weights.

        Raises:
            ValueError: for an unknown name (the message names the nearest), and for entries that do not match the
                outputs as far as these are known.

        Source: Keras 3, keras.Model.compile, without what chooses between its compilers.
        """
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
    def metrics_names(self) -> list[str]:
        """The names of what :meth:`evaluate` returns."""
        return self.objective.names

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
            batch_size: samples per step, None for 32; the last batch of an epoch may be smaller.
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
            [loss, metric, ...], or the loss alone when there are no metrics. With several outputs: their sum, the
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

    def _forget_compiled_shapes(self) -> None:
        """The output may have another shape now, and "accuracy" may be another metric."""
        if self._objective is not None:
            self._objective.forget_shapes()
