"""Keep Python objects out of checkpoints."""

from mmengine.hooks import Hook
from mmengine.logging import HistoryBuffer
from mmengine.registry import HOOKS

from distill.base.files import to_plain


@HOOKS.register_module()
class PlainCheckpointHook(Hook):
    """Keep Python objects out of checkpoints, so that these load with weights only.

    mmengine stores its log as `HistoryBuffer` objects, whose pickle torch ≥ 2.6 refuses to load. This hook writes each
    as two lists, and makes objects of them again when training resumes.
    """

    # After the hooks that add to a checkpoint.
    priority = 'VERY_LOW'

    def before_save_checkpoint(self, runner, checkpoint: dict) -> None:
        """Turn everything but tensors into plain values."""
        scalars = checkpoint['message_hub']['log_scalars']
        checkpoint['message_hub']['log_scalars'] = {k: v.data for k, v in scalars.items()}
        for key in checkpoint:
            if key not in ('state_dict', 'ema_state_dict', 'optimizer'):
                checkpoint[key] = to_plain(checkpoint[key])

    def after_load_checkpoint(self, runner, checkpoint: dict) -> None:
        """Turn the lists of the log into objects again."""
        scalars = checkpoint.get('message_hub', {}).get('log_scalars', {})
        for key, value in scalars.items():
            if not isinstance(value, HistoryBuffer):
                history, counts = value
                scalars[key] = HistoryBuffer(history, counts)
