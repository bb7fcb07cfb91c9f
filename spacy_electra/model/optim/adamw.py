"""The paper's AdamW over all tensors at once, and the thinc optimizer that holds its settings.

The config makes a thinc `Optimizer`, which trains spaCy's heads with thinc's own arithmetic. Before each step
`Hyperparameters.of` reads its settings as plain numbers for `AdamW`, which updates the torch parameters. Schedules are
therefore thinc's, and warm-up is not implemented here.

Source: Clark et al. 2020, appendix A, and `model/optimization.py` of google-research/electra.
"""

import math
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import torch
from thinc.optimizers import FloatOrSeq, Optimizer
from torch import Tensor, nn
from torch.optim.adamw import adamw

from spacy_electra.model.optim.loss_scale import LossScale
from spacy_electra.model.optim.parameter_groups import Group
from spacy_electra.model.optim.rates import UNGUARDED, TransformerRate


class AdamWOptimizer(Optimizer):
    """A thinc optimizer with the settings for ELECTRA's torch parameters."""

    __slots__ = ["bias_correction", "layer_decay", "transformer"]

    bias_correction: bool
    layer_decay: float | None
    transformer: TransformerRate


def adamw_v1(
    learn_rate: FloatOrSeq = 5e-4,
    *,
    beta1: float = 0.9,
    beta2: float = 0.999,
    eps: float = 1e-6,
    L2: float = 0.01,
    grad_clip: float = 1.0,
    bias_correction: bool = False,
    layer_decay: float | None = None,
    transformer_rate: float | Literal["auto"] = 1.0,
    transformer_delay: int = 0,
    transformer_warmup: int = 0,
    use_averages: bool = False,
) -> Optimizer:
    """Make the optimizer `spacy-electra.AdamW.v1`; the defaults are the paper's.

    learn_rate: rate of the topmost layer, or a schedule.
    L2: weight decay, applied to the weights before the update and scaled with the rate; never to norms and biases.
    grad_clip: maximum joint norm of all gradients, 0 for no limit.
    bias_correction: Adam's correction of young moments (the paper's code has none).
    layer_decay: rate of a layer as a share of that of the layer above (fine-tuning: 0.8 for small and base, 0.9 for
        large); None for equal rates.
    transformer_rate: rate of torch parameters as a share of learn_rate. "auto": 1, or a share whose peak suits a
        pretrained encoder of its width.
    transformer_delay: number of first steps in which torch parameters do not change, while heads that start from zero
        begin to learn.
    transformer_warmup: number of steps after these in which their rate rises.
    use_averages: keep a moving average of all weights, which spaCy scores and saves instead of the last ones.

    Other components of the same pipeline are updated by thinc's Adam with the same numbers: with bias correction,
    clipped tensor by tensor, with decay of biases and norms.

    Raises ValueError for numbers with which training is impossible.
    """
    _check_share("beta1", beta1)
    _check_share("beta2", beta2)
    if layer_decay is not None and layer_decay != 1:
        _check_share("layer_decay", layer_decay)
    transformer = TransformerRate(transformer_rate, delay=transformer_delay, warmup=transformer_warmup)
    for name, value in {"eps": eps, "L2": L2, "grad_clip": grad_clip, "learn_rate": learn_rate}.items():
        if isinstance(value, float | int) and not (0.0 <= value < math.inf and (value > 0.0 or name != "eps")):
            raise ValueError(
                f"optimizer: {name} must be a finite number {'above' if name == 'eps' else 'of at least'} 0, "
                f"but got {value}."
            )
    optimizer = AdamWOptimizer(
        learn_rate, beta1=beta1, beta2=beta2, eps=eps, L2=L2, grad_clip=grad_clip, use_averages=use_averages
    )
    optimizer.bias_correction = bias_correction
    optimizer.layer_decay = layer_decay
    optimizer.transformer = transformer
    return optimizer


def _check_share(name: str, value: float) -> None:
    """thinc quietly turns into plain gradient descent where a beta is 0, so 0 is no more welcome than 1."""
    if not 0.0 < value < 1.0:
        raise ValueError(f"optimizer: {name} must be above 0 and below 1, but got {value}.")


@dataclass(frozen=True)
class Hyperparameters:
    """The settings of one step, schedules evaluated."""

    learn_rate: float | Tensor  # a tensor () on the parameters' device, where a captured step must read a fresh one
    beta1: float
    beta2: float
    eps: float
    L2: float
    grad_clip: float  # 0 for no limit
    bias_correction: bool
    layer_decay: float | None

    @classmethod
    def of(
        cls,
        optimizer: Optimizer,
        *,
        peak: float = 0.0,
        taken: int | None = None,
        highest_rate: float | None = None,
        default: TransformerRate = UNGUARDED,
    ) -> "Hyperparameters":
        """Read a thinc optimizer in its current state: ours, or `Adam.v1`, which uses bias correction.

        peak: highest learning rate before this step.
        taken: number of steps of the torch parameters so far, for delay and warm-up; None after both.
        highest_rate: maximum rate of these parameters; None for no limit.
        default: for `Adam.v1`, which has no settings for torch parameters.
        Raises ValueError for an optimizer with an update that AdamW cannot make (RAdam, SGD, L2 as a penalty).
        """
        if optimizer.use_radam or not (optimizer.b1 > 0 and optimizer.b2 > 0):
            kind = "RAdam" if optimizer.use_radam else f"SGD (beta1={optimizer.b1}, beta2={optimizer.b2})"
            raise ValueError(
                f"the transformer is trained by AdamW, but the optimizer is {kind}: "
                f'choose @optimizers = "spacy-electra.AdamW.v1" or "Adam.v1".'
            )
        if optimizer.L2 and not optimizer.L2_is_weight_decay:
            raise ValueError(
                f"the transformer's L2={optimizer.L2} is a weight decay, but the optimizer has "
                f"L2_is_weight_decay = false: set it to true, or L2 to 0."
            )
        rate = optimizer.transformer if isinstance(optimizer, AdamWOptimizer) else default
        now = float(optimizer.learn_rate)
        return cls(
            learn_rate=rate.after(now, peak=max(now, peak), taken=taken, highest=highest_rate),
            beta1=float(optimizer.b1),
            beta2=float(optimizer.b2),
            eps=float(optimizer.eps),
            L2=float(optimizer.L2),
            grad_clip=float(optimizer.grad_clip),
            bias_correction=optimizer.bias_correction if isinstance(optimizer, AdamWOptimizer) else True,
            layer_decay=optimizer.layer_decay if isinstance(optimizer, AdamWOptimizer) else None,
        )


class AdamW:
    """Adam with decoupled weight decay: p -= rate * (mean / (sqrt(square) + eps) + L2 * p), p as before the step.

    Without bias correction this is the paper's optimizer, with it `torch.optim.AdamW`. The moments are on the devices
    where the parameters were when this was made; make it after the module has been moved.
    """

    def __init__(self, groups: list[Group], *, scale: LossScale | None = None):
        """groups: of `parameter_groups`.
        scale: loss scale, which is updated with each step.
        Raises ValueError if there is nothing to train.
        """
        if not any(group.parameters for group in groups):
            raise ValueError("the optimizer got no parameter: the module has none with requires_grad = True.")
        self.groups: list[Group] = []
        self.scale = scale
        self.means: dict[str, Tensor] = {}
        self.squares: dict[str, Tensor] = {}
        device = next(p.device for group in groups for p in group.parameters)
        self.steps = torch.zeros((), dtype=torch.float32, device=device)  # taken so far, as the kernel asks
        self.skipped = torch.zeros(2, dtype=torch.float32, device=device)  # steps not taken: in a row, and in all
        self._before: list[Tensor | None] = []  # (), of each group: steps taken before it was added; None for no step
        self.add(groups)

    def add(self, groups: Iterable[Group]) -> None:
        """Add parameters to the update. Their moments start at 0; those of the others stay.

        The age of moments is not part of `named_state`: after loading a state all have the same age.
        """
        before = self.steps.clone() if self.groups else None
        for group in groups:
            self.groups.append(group)
            self._before.append(before)
            for name, p in zip(group.names, group.parameters, strict=True):
                self.means[name], self.squares[name] = torch.zeros_like(p), torch.zeros_like(p)

    @property
    def parameters(self) -> list[nn.Parameter]:
        return [p for group in self.groups for p in group.parameters]

    @torch.no_grad()
    def step(self, now: Hyperparameters, *, norm: Tensor | None = None) -> None:
        """Update every parameter that has a gradient. Does not clip (`clip_gradients`) and keeps the gradients.

        norm: () norm of all gradients; if it is not finite, nothing is updated and the skipped step is counted. The
            host does not wait for the device.
        """
        is_lost = None if norm is None else (~norm.isfinite()).to(self.steps)
        for group, before in zip(self.groups, self._before, strict=True):
            named = [(n, p) for n, p in zip(group.names, group.parameters, strict=True) if p.grad is not None]
            # The kernel divides by 1 - beta ** steps: after an endless past there is nothing to correct.
            steps = self.steps if before is None else self.steps - before
            past = steps if now.bias_correction else torch.full_like(self.steps, math.inf)
            adamw(
                [p for _, p in named],
                [p.grad for _, p in named if p.grad is not None],
                [self.means[name] for name, _ in named],
                [self.squares[name] for name, _ in named],
                [],
                list(past.repeat(len(named)).unbind()),  # the kernel counts these up, each tensor its own
                fused=True,
                found_inf=is_lost,
                amsgrad=False,
                maximize=False,
                lr=now.learn_rate * group.rate,
                beta1=now.beta1,
                beta2=now.beta2,
                eps=now.eps,
                weight_decay=now.L2 if group.decays else 0.0,
            )
        taken = torch.ones_like(self.steps) if is_lost is None else 1 - is_lost
        self.steps += taken
        self.skipped += 1 - taken
        self.skipped[0] *= 1 - taken
        if self.scale is not None and is_lost is not None:
            self.scale.learn(is_lost > 0)

    def named_state(self) -> dict[str, Tensor]:
        """The whole state as flat tensors, not copied: counts, and each parameter's `mean.NAME` and `square.NAME`."""
        state = {"steps": self.steps, "skipped": self.skipped}
        if self.scale is not None:
            state["loss_scale"] = self.scale.numbers
        state.update({f"mean.{name}": tensor for name, tensor in self.means.items()})
        state.update({f"square.{name}": tensor for name, tensor in self.squares.items()})
        return state

    @torch.no_grad()
    def load_named_state(self, state: Mapping[str, Tensor]) -> None:
        """Load the result of `named_state`, from any device.

        Raises ValueError, changing nothing, if names or shapes differ.
        """
        mine = self.named_state()
        if "loss_scale" not in state:  # of a run in another precision, which goes on with a fresh one
            mine.pop("loss_scale", None)
        elif "loss_scale" not in mine:
            state = {name: tensor for name, tensor in state.items() if name != "loss_scale"}
        if wrong := sorted(mine.keys() ^ state.keys()):
            raise ValueError(
                f"the optimizer's state belongs to other parameters: {wrong[0]!r} "
                f"{'is missing' if wrong[0] in mine else 'is not known here'} ({len(wrong)} such names). "
                f"Resume with the model and the trainable layers that the state was saved with."
            )
        for name, tensor in mine.items():
            if tensor.shape != state[name].shape:
                raise ValueError(
                    f"the optimizer's state {name!r} has shape {tuple(state[name].shape)}, but the model needs "
                    f"{tuple(tensor.shape)}: resume with the model that the state was saved with."
                )
        for name, tensor in mine.items():
            tensor.copy_(state[name])


@contextmanager
def kept_rate(optimizer: Optimizer) -> Iterator[None]:
    """Restore the rate of the optimizer when the block ends."""
    peak = optimizer.learn_rate
    try:
        yield
    finally:
        optimizer.learn_rate = peak


def clip_gradients(parameters: Iterable[nn.Parameter], limit: float) -> Tensor:
    """Scale all gradients so that their joint norm is at most `limit`; returns the norm before, ().

    limit: 0 for no limit.
    """
    parameters = list(parameters)
    norm = nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
    if limit:
        nn.utils.clip_grads_with_norm_(parameters, limit, norm)
    return norm
