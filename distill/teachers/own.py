"""A network of a user's own as a teacher, of classes or of features."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from backbones.checkpoint import weights_sha256
from backbones.loading import LoadedModel
from backbones.record import ModelRecord
from backbones.sources import own
from distill.base.forward import compiled
from distill.teachers.features import LiveFeatures
from distill.teachers.live import LiveTeacher


class OwnTeacher(LiveTeacher):
    """A network of a user's own, as it is: it is neither copied nor frozen for good, see `unaltered`.

    The network runs in eval mode and without gradients. It follows the student to its device, and only there.

    Args:
        model: Name under which `backbones.sources.own` keeps the network.
        compile: Options of `torch.compile`, or whether to compile.
        weights_sha256: Hash of the weights that a config expects; None for any.

    Raises:
        ValueError: This process has no such network, or it has other weights.
    """

    def __init__(self, model: str, compile: bool | Mapping = False, weights_sha256: str | None = None):
        kept = own.find(model)
        self.network: Any = kept.network.eval()
        self.num_classes = kept.num_classes
        self.predict = compiled(compile)
        self.source = {'model': own.class_name(kept.network), 'weights_sha256': own_sha256(model, weights_sha256)}
        self.mean, self.std, self.classes = tuple(kept.mean), tuple(kept.std), kept.classes
        self.size = kept.input_size
        self.places: Tensor | None = None


class OwnFeatures(LiveFeatures):
    """A network of a user's own as a teacher of features, as it is: neither copied nor frozen for good.

    One with timm's functions (``forward_features``, ``forward_head``) gives what any of timm's does. Of another, what
    it returns [B, D] is its embeddings, and it has no map.

    Args: those of `LiveFeatures`; ``model`` is the name under which `backbones.sources.own` keeps the network, and
        ``weights_sha256`` the hash of the weights that a config expects, or None for any.

    Raises:
        ValueError: This process has no such network, it has other weights, or it cannot give what is asked of it.
    """

    def _load(self, model: Mapping[str, Any]) -> LoadedModel:
        name, expected = model['model'], model.get('weights_sha256')
        kept, sha256 = own.find(name), own_sha256(name, expected)
        if others := sorted(model.keys() - {'model', 'weights_sha256', 'input_size'}):
            raise ValueError(f"'{name}' is built already and takes no {', '.join(others)}; drop them")
        network: Any = kept.network.eval()
        if not hasattr(network, 'num_classes'):
            network.num_classes = kept.num_classes
        record = ModelRecord(
            own.class_name(network),
            classes=kept.classes,
            mean=list(kept.mean),
            std=list(kept.std),
            weights_sha256=sha256,
        )
        return LoadedModel(network, record, name)


def own_sha256(name: str, expected: str | None = None) -> str:
    """The hash of the weights of a network that is kept.

    Args:
        name: Its name.
        expected: The hash that it should have; None for any.

    Raises:
        ValueError: This process has no such network, or it has other weights.
    """
    found = weights_sha256(own.find(name).network.state_dict())
    if expected not in (None, found):
        raise ValueError(f"'{name}' has other weights than the config says; give the network that it was made for")
    return found
