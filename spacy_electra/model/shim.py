"""The thinc shim of a torch module: forward and backward passes, optimizer steps, serialization.

thinc's own shim supports float16 only on CUDA, clips and updates tensor by tensor in Python, and switches the module
between training and evaluation at each call, which two threads cannot share. Our modules take dropout as an argument.
"""

import copy
import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial
from itertools import compress
from typing import Any

import torch
from thinc.optimizers import Optimizer
from thinc.shims import Shim
from thinc.util import get_torch_default_device, xp2torch
from torch import Tensor, nn

from spacy_electra.model.files.weights import SavedWeights, pack_weights, unpack_weights
from spacy_electra.model.inference.backend import Backend, Choice, choose_backend
from spacy_electra.model.inference.eager import cast
from spacy_electra.model.isolation import isolated, survive_forks
from spacy_electra.model.optim.averages import replaced_weights
from spacy_electra.model.optim.rates import UNGUARDED
from spacy_electra.model.optim.steps import GatherGradients, OptimizerSteps, Ticket
from spacy_electra.model.precision import PRECISIONS, check_precision

Forward = Callable[[Any, Any], Any]  # (module, inputs) -> outputs
Predict = Callable[[Any], Any]  # inputs -> outputs
Backprop = Callable[..., None]  # (roots, gradients=None)


class TorchShim(Shim):
    """Runs a torch module under thinc: passes here, optimizer steps in `steps`."""

    precisions: Collection[str] = PRECISIONS  # that may be asked for, beside "auto"
    default_rate = UNGUARDED  # where an optimizer says nothing of torch parameters

    def __init__(self, module: nn.Module | None = None, *, forward: Forward, precision: str = "auto"):
        """module: float32, or None if `from_bytes` or a subclass sets it.
        forward: a module-level function, called with the module and the caller's inputs.
        precision: as for `choose_backend`.
        """
        super().__init__(None)
        survive_forks()
        check_precision(precision, known=self.precisions)
        self.forward = forward
        self.precision = precision
        self.steps = OptimizerSteps(self)
        self._forget()
        if module is not None:
            self.set_module(module)

    @isolated()
    def set_module(self, module: nn.Module) -> None:
        """Use this module from now on, on thinc's device."""
        self._model = _that_can_learn(module).to(get_torch_default_device())
        self._forget()

    def _forget(self) -> None:
        """Drop all that belongs to the weights as they were: optimizer state, copies for prediction, waiting passes."""
        self.training_forward: Forward | None = None  # stands in for `forward` in training: the same, compiled
        self.version = object()  # another one whenever the weights are others
        self.steps.begin_afresh()
        self._prepared: tuple[object, Backend, Predict] | None = None
        self._lock = threading.Lock()

    @property
    def module(self) -> nn.Module:
        if self._model is None:
            raise ValueError(
                "the transformer has no weights yet: call nlp.initialize() with a model's `name` in the config, "
                "or load a saved pipeline with spacy.load."
            )
        module: nn.Module = self._model
        return module

    @property
    def device(self) -> torch.device:
        return next(self.module.parameters()).device

    @property
    def choice(self) -> Choice:
        """How the module predicts and trains on its device."""
        return choose_backend(self.precision, self.device)

    @property
    def highest_rate(self) -> float | None:
        """Maximum learning rate of the module if the optimizer does not set one; for subclasses."""
        return None

    @property
    def is_plain(self) -> bool:
        """True if the module is saved as it is; a subclass may train parameters that are merged first."""
        return True

    def plain_module(self) -> nn.Module:
        """The module as it is saved: itself if plain, otherwise a new one that may share tensors with it."""
        return self.module

    # Passes

    def __call__(self, inputs: Any, is_train: bool) -> tuple[Any, Backprop]:
        return self.begin_update(inputs) if is_train else (self.predict(inputs), no_backprop)

    @isolated()
    def predict(self, inputs: Any) -> Any:
        """Run the module without gradients, in the precision of predictions. Threads may share it."""
        with torch.no_grad():
            return self.predictor()(inputs)

    def predictor(self) -> Predict:
        """The prediction function for the current weights, prepared once."""
        backend = self.choice.prediction
        with self._lock:
            if self._prepared is None or self._prepared[:2] != (self.version, backend):
                module = self.module if self.is_plain else self.plain_module().requires_grad_(False)
                self._prepared = (self.version, backend, self.prepare(module, backend))
            return self._prepared[2]

    def prepare(self, module: nn.Module, backend: Backend) -> Predict:
        """Prepare a backend for a module, which it does not change; for subclasses."""
        return partial(self.forward, cast(module, backend.dtype))

    @isolated()
    def begin_update(self, inputs: Any) -> tuple[Any, Backprop]:
        """Run the module with gradients.

        Returns the outputs and `backprop(roots, gradients=None)`: roots are the outputs or tensors computed from them,
        gradients those of the loss towards them, None for a loss itself. Gradients accumulate until a step is taken.
        """
        dtype = self.choice.training
        self.steps.begin_pass()
        is_lower = dtype != torch.float32
        autocast = torch.autocast(self.device.type, dtype=dtype, enabled=is_lower, cache_enabled=False)
        with torch.enable_grad(), autocast:  # the cache of an autocast around this one would outlive the weights
            outputs = (self.training_forward or self.forward)(self.module, inputs)
        ticket = Ticket()
        self.steps.wait_for(ticket)

        @isolated()
        def backprop(roots: Sequence[Tensor], gradients: Sequence[Tensor] | None = None) -> None:
            self.steps.end_pass(ticket)
            gradients = [torch.ones_like(root) for root in roots] if gradients is None else gradients
            if dtype == torch.float16:
                gradients = self.steps.loss_scale().enlarge(gradients)
            learned = [root.requires_grad for root in roots]  # not where all that it hangs on is frozen
            torch.autograd.backward(list(compress(roots, learned)), list(compress(gradients, learned)))
            self.steps.step_if_due()

        return outputs, backprop

    @isolated()
    def finish_update(self, optimizer: Optimizer | GatherGradients) -> None:
        """Take a step with the accumulated gradients, as `OptimizerSteps.ask` does."""
        self.steps.ask(optimizer)

    def weights_changed(self) -> None:
        """Invalidate everything that was derived from the weights."""
        self.version = object()

    @contextmanager
    def use_params(self, params: Mapping[tuple[int, str], Any]) -> Iterator[None]:
        """Use other weights until the block ends.

        params: arrays by (id of the shim, name); weights that are not named stay.
        """
        weights = {name: xp2torch(array) for (owner, name), array in params.items() if owner == self.id}
        own = self.version
        with replaced_weights(self.module, weights) if weights else nullcontext():
            if weights:
                self.version = object()
            try:
                yield
            finally:
                self.version = own

    def after_step(self) -> None:
        """Called after each step that was asked for, even without gradients; for subclasses."""

    # Copies, devices, bytes

    @isolated()
    def __getstate__(self) -> dict[str, Any]:
        return {name: self.__dict__[name] for name in ("cfg", "_model", "_optimizer", "forward", "precision")}

    @isolated()
    def __setstate__(self, state: dict[str, Any]) -> None:
        Shim.__init__(self, None)
        survive_forks()
        self.__dict__.update(state)
        self._model = None if self._model is None else _that_can_learn(self._model)
        self.steps = OptimizerSteps(self)
        self._forget()

    @isolated()
    def to_device(self, device_type: str, device_id: int) -> None:
        """Move the weights, if any; the optimizer state is dropped.

        device_type: thinc's "cpu", "gpu" or "mps".
        """
        if self._model is None:
            return
        self.module.to(torch.device(f"cuda:{device_id}") if device_type == "gpu" else torch.device(device_type))
        self._forget()

    def describe(self) -> dict[str, Any]:
        """Data that is saved with the weights, as plain JSON values; for subclasses."""
        return {}

    def rebuild(self, saved: SavedWeights) -> nn.Module:
        """A module for the saved weights, possibly on the meta device; for subclasses.

        Raises ValueError if description and weights do not fit, before it allocates anything of their size.
        """
        return self.module

    def stored(self) -> dict[str, Tensor]:
        """The weights as they are saved; subclasses may compress them as `files.int8` does."""
        return self.plain_module().state_dict()

    @isolated()
    def to_bytes(self) -> bytes:
        """Serialize weights and description into one message, without optimizer state."""
        if self._model is None:
            return pack_weights(SavedWeights(description={}, weights=None))
        return pack_weights(SavedWeights(description=self.describe(), weights=self.stored()))

    @isolated()
    def from_bytes(self, data: bytes | memoryview) -> "TorchShim":
        """Load the result of `to_bytes`. Raises ValueError for damaged weights, and for those of another module."""
        saved = unpack_weights(data)
        if saved.weights is None:
            return self
        module = self.rebuild(saved)
        try:
            module.load_state_dict(saved.weights, assign=any(p.is_meta for p in module.parameters()))
        except RuntimeError as error:
            raise ValueError(f"the saved weights do not fit this model, load them with its own: {error}") from None
        self.set_module(module)
        return self


def _that_can_learn(module: nn.Module) -> nn.Module:
    """The module, or a copy of one whose weights were made in inference mode, in which nothing can learn."""
    return copy.deepcopy(module) if any(p.is_inference() for p in module.parameters()) else module


def no_backprop(roots: Sequence[Tensor], gradients: Sequence[Tensor] | None = None) -> None:
    raise ValueError("a prediction keeps no gradients: use begin_update to backpropagate.")
