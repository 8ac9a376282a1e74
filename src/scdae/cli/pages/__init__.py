"""What the commands say, on one page: the plan before and the summary after. Loaded when they are said, so that help comes at once."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from scdae.cli.pages.plan import check_result_room, plan_impute, plan_training
    from scdae.cli.pages.summary import (
        describe_evaluation,
        describe_model,
        describe_plan,
        describe_run,
        describe_score,
    )

__all__ = [
    "check_result_room",
    "describe_evaluation",
    "describe_model",
    "describe_plan",
    "describe_run",
    "describe_score",
    "plan_impute",
    "plan_training",
]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{'summary' if name.startswith('describe') else 'plan'}"), name)
