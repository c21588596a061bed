"""Export a model to files that engines run, each verified in its own engine."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import nn

from backbones.loading import LoadedModel, load
from distill.api.checks import check_export, check_least
from distill.api.session import call
from distill.base.files import remove_leftovers
from distill.base.screen import screen
from distill.export.export import export_classifier
from distill.export.files import Exported, Wish
from distill.export.images import COUNT
from distill.export.quantise.artefact import Options, default_out, quantise
from distill.export.verify import TOLERANCE
from distill.robustness.sources import Source, run_name


@call
def export_model(
    source: str | os.PathLike | nn.Module | LoadedModel,
    out: str | os.PathLike,
    engines: str | Sequence[str] = 'onnx',
    *,
    name: str | None = None,
    features: Sequence[int] | None = None,
    uint8: bool = False,
    batch: int | None = None,
    fixed_size: bool = False,
    images: str | os.PathLike | None = None,
    count: int = COUNT,
    tolerance: float = TOLERANCE,
    threads: int | None = None,
    config: str | os.PathLike | None = None,
    data_root: str | os.PathLike | None = None,
    int8: Options | None = None,
    model_options: Mapping[str, Any] | None = None,
    progress: bool = True,
) -> list[Exported]:
    """Export a model: to one file for each engine, which is run there and compared with the model before it is kept.

    The same as ``robust-backbones export``.

    Args:
        source: A classifier: timm name, file, folder or another source of `backbones.load`, a network of your own, or
            what `backbones.load` returns. With ``config`` a checkpoint of a detector or segmenter.
        out: Folder of the files.
        engines: Names of the engines: ``onnx``, ``openvino``, ``mnn``, ``executorch``, ``torch``.
        name: Name of the files, without ending; None for that of the source.
        features: Entries of the model's ``feature_info``, to export a feature pyramid; empty for the last four.
        uint8: Have the file normalise its images itself: it is shown them as they are decoded.
        batch: Images of a run, to fix it; None for any number where the engine can.
        fixed_size: Take images of the model's size only, which is exported sooner.
        images: Folder of images to verify with; None for synthetic ones, and of a detector or segmenter for those of
            the config's test set.
        count: How many of them at the most.
        tolerance: How far an output may be from the model's, relative to the largest one.
        threads: Of the engines while they verify; None for their own choice.
        config: Config of a detector or segmenter, whose checkpoint ``source`` is.
        data_root: Folder of the config's data in place of the one that it names.
        int8: How to quantise, to write an int8 file beside each.
        model_options: Arguments of `backbones.load`, such as ``input_size``.
        progress: Show what is done.

    Returns:
        What was written, in the order of the engines: the path and the manifest of each file.

    Raises:
        FileNotFoundError: There is no such model or folder.
        ValueError: The model cannot be exported, an engine is missing, or what it runs is not what the model computes.
    """
    wanted = (engines,) if isinstance(engines, str) else tuple(engines)
    check_export(wanted, out, images)
    check_least(1, batch=batch, count=count, threads=threads)
    out, given = Path(out), dict(model_options or {})
    chosen = tuple(features) if features is not None else None
    folder = Path(images) if images is not None else None
    wish = Wish(wanted, chosen, uint8, batch, fixed_size, folder, count, tolerance, threads)
    name = name or _name(source, chosen)
    remove_leftovers(out)
    with screen(not progress).status('loading') as status:
        if config is not None:
            from distill.export.dense import export_dense

            largest = _largest(given)
            if not isinstance(source, (str, os.PathLike)):
                raise ValueError('a config is for the checkpoint of a detector or segmenter; leave it out for a module')
            exported = export_dense(config, source, out, name, wish, status.update, largest, data_root)
        elif data_root is not None:
            raise ValueError('a data root is of a config; leave it out, or give images')
        else:
            loaded = _load(source, given)
            exported = export_classifier(loaded, out, name, wish, status.update)
        return exported if int8 is None else [*exported, *_quantised(exported, int8, status.update)]


def _largest(given: Mapping[str, Any]) -> tuple[int, int] | None:
    """The largest image that a detector or segmenter is exported for, out of options of which it takes this one."""
    others = [name for name, value in given.items() if value is not None and name != 'input_size']
    if others:
        raise ValueError(f"a detector or segmenter takes no '{others[0]}': its config says all that it needs")
    size = given.get('input_size')
    if size is None:
        return None
    height, width = (size, size) if isinstance(size, int) else tuple(size)[-2:]
    return height, width


def _load(source: str | os.PathLike | nn.Module | LoadedModel, given: Mapping[str, Any]) -> LoadedModel:
    """Load the model that is exported."""
    if isinstance(source, LoadedModel):
        return source
    if isinstance(source, nn.Module):
        return load(source, **given)
    parsed = Source.parse(str(source))
    parsed.check()
    if parsed.is_artefact:
        raise ValueError(f"'{source}' is exported already; give the model that it was made of")
    loaded = load(parsed.path, **given)
    return replace(loaded, source=str(source))


def _name(source: str | os.PathLike | nn.Module | LoadedModel, features: Sequence[int] | None) -> str:
    """The name of the files."""
    if isinstance(source, LoadedModel):
        source = source.source
    text = type(source).__name__ if isinstance(source, nn.Module) else Source.parse(str(source)).name
    return (run_name(text) if os.sep in text else text) + ('' if features is None else '_features')


def _quantised(exported: Sequence[Exported], options: Options, tell: Any) -> list[Exported]:
    """Write an int8 file beside each file of fp32."""
    found = []
    for one in exported:
        path = default_out(one.path, 'int8')
        found.append(Exported(path, quantise(one.path, path, options, say=tell)))
    return found
