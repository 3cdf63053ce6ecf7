"""The weights of a base as NF4 training saw them: rounded as they are read, in the blocks and with the scales of training."""

from __future__ import annotations

from torch import Tensor, nn

from pacos.export.origin import Origin, double_quant
from pacos.export.tensors import TensorFiles
from pacos.export.updates import tensor_of
from pacos.models.load import load_shape
from pacos.models.quantize import BLOCK, bitsandbytes


class Rounded:
    """The weights of an origin's base, every linear map but the head rounded to NF4 and back."""

    def __init__(self, origin: Origin):
        shape, _ = load_shape(str(origin.base.folder), dtype="fp32", device="cpu")
        head = shape.get_output_embeddings()
        linears = [name for name, part in shape.named_modules() if isinstance(part, nn.Linear) and part is not head]
        self.base: TensorFiles = origin.weights
        self.slots = self.base.slots
        self.names = {tensor_of(name, self.base) for name in linears}
        self.double_quant = double_quant(origin)

    def read(self, name: str) -> Tensor:
        weight = self.base.read(name)
        return round_to_nf4(weight, self.double_quant) if name in self.names else weight

    def rows(self, name: str, start: int, stop: int) -> Tensor:
        """Rows [start, stop) of a tensor that is not rounded."""
        assert name not in self.names
        return self.base.rows(name, start, stop)


def round_to_nf4(weight: Tensor, double_quant: bool) -> Tensor:
    """What NF4 stands for, in fp32."""
    functional = bitsandbytes().functional
    packed, state = functional.quantize_4bit(
        weight.float(), blocksize=BLOCK, compress_statistics=double_quant, quant_type="nf4"
    )
    values: Tensor = functional.dequantize_4bit(packed, state)
    return values
