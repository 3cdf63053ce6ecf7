"""Training: the step, packing, schedule, checkpoints, and the run that ties them together.

Names are imported when first used: a run's record can be read without torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pacos.lazy import lazy

if TYPE_CHECKING:
    from pacos.training.prepare import Prepared, prepare_rows
    from pacos.training.record import RunRecord, read_record
    from pacos.training.run import Told, run_training
    from pacos.training.train import Step

__all__ = ["Prepared", "RunRecord", "Step", "Told", "prepare_rows", "read_record", "run_training"]

__getattr__ = lazy(
    __name__,
    {
        "Prepared": "prepare",
        "prepare_rows": "prepare",
        "RunRecord": "record",
        "read_record": "record",
        "Told": "run",
        "run_training": "run",
        "Step": "train",
    },
)
