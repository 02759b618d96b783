"""FSDP by accelerate and transformers' Trainer, on the CPU."""

from accelerate.state import AcceleratorState
from accelerate.utils import DistributedType


def allow_cpu():
    """accelerate shards on accelerators only; gloo does it on a CPU too."""
    begin = AcceleratorState.__init__

    def state(self, *args, **more):
        begin(self, *args, **more)
        self.distributed_type = DistributedType.FSDP
        self.fsdp_plugin = more.get("fsdp_plugin") or self.fsdp_plugin

    AcceleratorState.__init__ = state
