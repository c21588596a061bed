"""Write the files of mmengine's hooks in one piece."""

from mmengine.fileio import LocalBackend, register_backend

from backbones.files import atomic_write


@register_backend('atomic', force=True)
class AtomicBackend(LocalBackend):
    """Local files that are never half written: `CheckpointHook(backend_args=dict(backend='atomic'))`.

    A run that is killed while it writes a checkpoint leaves the checkpoint before it, and no damaged one.
    """

    def put(self, obj: bytes, filepath: str) -> None:
        """Write bytes to a temporary file, then rename it."""
        with atomic_write(filepath) as temporary:
            temporary.write_bytes(obj)
