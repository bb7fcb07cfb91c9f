"""Decide when an optimizer step is taken: pending backward passes, gradients, AdamW, loss scale.

`nlp.update(examples, sgd=...)` asks the transformer for a step before its listeners have sent gradients. So a step is
pending until the backward passes of all forward passes have run.

A forward pass that raised, whose callback was dropped, or whose backward pass has not run by the next forward pass, no
longer delays a pending step. Otherwise an exception object that keeps a callback alive would block all steps.
"""

import weakref
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import torch
from thinc.optimizers import Optimizer
from thinc.util import torch2xp
from torch import Tensor, nn

from spacy_electra.model.inference.backend import Choice
from spacy_electra.model.optim.adamw import AdamW, Hyperparameters, clip_gradients
from spacy_electra.model.optim.averages import update_averages
from spacy_electra.model.optim.loss_scale import LossScale
from spacy_electra.model.optim.parameter_groups import parameter_groups
from spacy_electra.model.optim.rates import TransformerRate, ZeroRateWatch

GatherGradients = Callable[[tuple[int, str], Any, Any], Any]  # (key, weights, gradient), arrays of thinc
BeforeStep = Callable[[Sequence[nn.Parameter]], None]  # sees all gradients before they are clipped


class Learns(Protocol):
    """The part of a shim that `OptimizerSteps` needs."""

    id: int  # of the weights in the table of averages
    default_rate: TransformerRate  # where an optimizer says nothing of torch parameters

    @property
    def module(self) -> nn.Module: ...

    @property
    def device(self) -> torch.device: ...

    @property
    def choice(self) -> Choice: ...

    @property
    def highest_rate(self) -> float | None: ...

    def after_step(self) -> None: ...

    def weights_changed(self) -> None: ...


class Ticket:
    """Represents a forward pass whose backward pass has not run. Deleted with the callback that holds it."""

    __slots__ = ("__weakref__",)


class OptimizerSteps:
    """The optimizer steps of one module's weights, until these are replaced."""

    def __init__(self, shim: Learns):
        self.gradient_norm: Tensor | None = None  # () joint norm before the clip, of the last step
        self.before_step: BeforeStep | None = None
        self._shim = weakref.proxy(shim)  # which holds this
        self.begin_afresh()

    def begin_afresh(self) -> None:
        """Drop moments, loss scale and pending passes, which belong to earlier weights."""
        self._waiting: weakref.WeakSet[Ticket] = weakref.WeakSet()
        self._asked: tuple[Optimizer, Hyperparameters] | None = None
        self._adamw: tuple[Optimizer, AdamW] | None = None
        self._taken, self._peak = 0, 0.0  # steps of that optimizer, and the highest of its rates
        self._rate_watch = ZeroRateWatch()
        self._loss_scale: LossScale | None = None

    @property
    def is_asked(self) -> bool:
        """Whether a step is pending."""
        return self._asked is not None

    def begin_pass(self) -> None:
        """Call before a forward pass: while a step is pending, passes without a backward pass no longer delay it."""
        if self._asked is not None:
            self._waiting.clear()

    def wait_for(self, ticket: Ticket) -> None:
        """Call after a forward pass: no step is taken before its backward pass."""
        self._waiting.add(ticket)

    def end_pass(self, ticket: Ticket) -> None:
        """Call before a backward pass: it no longer delays a step."""
        self._waiting.discard(ticket)

    def step_if_due(self) -> None:
        """Call after a backward pass: take the pending step if no other backward pass is missing."""
        if not self._waiting:
            self._step()

    def ask(self, optimizer: Optimizer | GatherGradients) -> None:
        """Take a step with the accumulated gradients, now or as soon as all backward passes have run.

        optimizer: a function, as `nlp.rehearse` passes it, gets each weight and its gradient now, as from thinc's
            layers. It changes the weights in place by thinc's own arithmetic, with moments apart from those here.
        Raises ValueError for an optimizer that is not Adam, as `Hyperparameters.of` does.
        """
        if not isinstance(optimizer, Optimizer):
            self._give_gradients(optimizer)
            return
        self._rate_watch.see(optimizer)
        if self._adamw is None or self._adamw[0] is not optimizer:
            self._taken, self._peak = 0, 0.0
        self._peak = max(self._peak, float(optimizer.learn_rate))
        self._asked = (optimizer, self._hyperparameters(optimizer))
        self.step_if_due()

    def _hyperparameters(self, optimizer: Optimizer) -> Hyperparameters:
        return Hyperparameters.of(
            optimizer,
            peak=self._peak,
            taken=self._taken,
            highest_rate=self._shim.highest_rate,
            default=self._shim.default_rate,
        )

    def _give_gradients(self, take: GatherGradients) -> None:
        learned = {name: p for name, p in self._shim.module.named_parameters() if p.grad is not None}
        gradients = [p.grad for p in learned.values() if p.grad is not None]
        is_lost = ~nn.utils.get_total_norm(gradients).isfinite()
        if self._loss_scale is not None:
            self._loss_scale.shrink(gradients)
            self._loss_scale.learn(is_lost)
        if not is_lost:
            for (name, p), gradient in zip(learned.items(), gradients, strict=True):
                take((self._shim.id, name), torch2xp(p.detach()), torch2xp(gradient))
        self.forget_gradients()
        self._shim.weights_changed()

    def forget_gradients(self) -> None:
        """Drop the gradients since the last step, and the pending passes."""
        self._waiting.clear()
        self._asked = None
        self._shim.module.zero_grad(set_to_none=True)

    def adamw_for(self, optimizer: Optimizer) -> AdamW:
        """The torch optimizer of `optimizer`, with its moments; made anew for another `optimizer`."""
        if self._adamw is None or self._adamw[0] is not optimizer:
            layer_decay = Hyperparameters.of(optimizer).layer_decay
            scale = self.loss_scale() if self._shim.choice.training == torch.float16 else None
            self._adamw = (optimizer, AdamW(parameter_groups(self._shim.module, layer_decay=layer_decay), scale=scale))
        return self._adamw[1]

    def learn_more(self) -> None:
        """Add parameters that have begun to need gradients to the torch optimizer; the moments of others stay."""
        if self._adamw is not None:
            optimizer, adamw = self._adamw
            layer_decay = Hyperparameters.of(optimizer).layer_decay
            adamw.add(parameter_groups(self._shim.module, layer_decay=layer_decay, known=adamw.means.keys()))

    def loss_scale(self) -> LossScale:
        """The loss scale for float16, made on first use."""
        if self._loss_scale is None:
            self._loss_scale = LossScale(self._shim.device)
        return self._loss_scale

    def _step(self) -> None:
        if self._asked is None:
            return
        (optimizer, now), self._asked = self._asked, None
        if any(p.grad is not None for p in self._shim.module.parameters()):
            self._update(optimizer, now)
        self._shim.after_step()

    def _update(self, optimizer: Optimizer, now: Hyperparameters) -> None:
        adamw = self.adamw_for(optimizer)
        if self.before_step is not None:
            self.before_step(adamw.parameters)
        if adamw.scale is not None:
            adamw.scale.shrink([p.grad for p in adamw.parameters if p.grad is not None])
        self.gradient_norm = clip_gradients(adamw.parameters, now.grad_clip)
        adamw.step(now, norm=self.gradient_norm)
        self._taken += 1
        self._shim.module.zero_grad(set_to_none=True)
        self._shim.weights_changed()
        if optimizer.averages is not None:
            named = [pair for group in adamw.groups for pair in zip(group.names, group.parameters, strict=True)]
            weights = {(self._shim.id, name): parameter for name, parameter in named}
            update_averages(optimizer.averages, weights, steps=self._taken)
