"""DeepSpeed: what optimizers keep is shared out among the processes of a run (ZeRO, arXiv:1910.02054)."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from ..errors import InputError, MissingDependencyError

if TYPE_CHECKING:
    from lightning.fabric.plugins.environments.cluster_environment import ClusterEnvironment
    from lightning.pytorch.strategies import Strategy

    from .config import TrainConfig
    from .optim import Plan

__all__ = ["check_sharding", "sharding_strategy"]


def check_sharding(config: TrainConfig, plan: Plan) -> None:
    """Refuse what a run with ``strategy: deepspeed`` cannot do; nothing where the strategy is another.

    Raises:
        InputError: If gradients are accumulated, or the optimizer looks at layers.
        MissingDependencyError: If DeepSpeed is not installed.
    """
    if config.strategy != "deepspeed":
        return
    if plan.accumulate > 1:
        raise InputError(
            f"gradients of {plan.accumulate} steps are summed, and DeepSpeed takes a number that does not change",
            remedy=f"nominal_batch: {config.batch}, or a larger batch",
        )
    if plan.optimizer == "lamb":
        raise InputError("the optimizer is lamb, which goes by layers, and DeepSpeed cuts them up", remedy="use adamw")
    if find_spec("deepspeed") is None:
        raise MissingDependencyError("deepspeed", extra="deepspeed", purpose="for strategy deepspeed")


def sharding_strategy(config: TrainConfig, environment: ClusterEnvironment) -> Strategy:
    """Return the strategy: states of the optimizer and gradients are cut up (stage 2), weights are whole everywhere."""
    from lightning.pytorch.strategies import DeepSpeedStrategy

    class Sharding(DeepSpeedStrategy):
        def training_step(self, *args: Any, **kwargs: Any) -> Any:
            """Leave it to the step to call the engine: it must have come back before a loss goes backward."""
            assert self.lightning_module is not None
            with self.precision_plugin.train_step_context():
                return self.lightning_module.training_step(*args, **kwargs)

    return Sharding(
        cluster_environment=environment,
        config={
            "zero_optimization": {"stage": 2},
            "zero_allow_untested_optimizer": True,  # SGD
            "gradient_clipping": config.clip_norm,
            "train_micro_batch_size_per_gpu": config.batch // (config.devices * config.nodes),
        },
    )
