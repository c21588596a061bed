"""Attention biases for maps of any size, in models that timm builds for one size."""

from timm.layers import RelPosBias, gen_relative_position_index, resize_rel_pos_bias_table_simple
from timm.models.maxxvit import Attention2d
from torch import Tensor, nn

__all__ = ['MapSizedBias', 'follow_map_sizes']


class MapSizedBias(nn.Module):
    """timm's `RelPosBias` with a table that is resampled to the size of each map.

    At the size that the model was built for the bias is timm's; the table has the same name and shape.

    Args:
        bias: The bias to replace.
    """

    def __init__(self, bias: RelPosBias):
        super().__init__()
        self.relative_position_bias_table = bias.relative_position_bias_table
        self.built_for = self.size = tuple(bias.window_size)
        self._index: tuple[tuple[int, int], Tensor] | None = None

    def note_size(self, attention: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        """Note the size of the map [B, C, H, W] before the attention works on it."""
        self.size = tuple(inputs[0].shape[-2:])

    def get_bias(self) -> Tensor:
        """The bias of each pair of positions [1, heads, H·W, H·W]."""
        height, width = self.size
        table = self.relative_position_bias_table
        if self.size != self.built_for:
            shape = ((2 * height - 1) * (2 * width - 1), table.shape[1])
            table = resize_rel_pos_bias_table_simple(table, self.size, shape)
        if self._index is None or self._index[0] != self.size or self._index[1].device != table.device:
            self._index = self.size, gen_relative_position_index(self.size, device=table.device).flatten()
        area = height * width
        return table[self._index[1]].view(area, area, -1).permute(2, 0, 1)[None].contiguous()

    def forward(self, attention: Tensor, shared_rel_pos: Tensor | None = None) -> Tensor:
        """Add the bias to attention scores [B, heads, H·W, H·W]."""
        return attention + self.get_bias()


def follow_map_sizes(network: nn.Module) -> None:
    """Let attention over whole maps (CoAtNet's) take maps of any size; windowed attention stays as it is."""
    for module in network.modules():
        if isinstance(module, Attention2d) and type(module.rel_pos) is RelPosBias:
            module.rel_pos = MapSizedBias(module.rel_pos)
            module.register_forward_pre_hook(module.rel_pos.note_size)
