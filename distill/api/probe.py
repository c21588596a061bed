"""Judge frozen features by k-NN and linear classifiers, on clean and shifted images."""

import os
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from distill.api.checks import check_evaluation, check_least, check_probe
from distill.api.evaluate import Model, command_of, join, named, problem_lines, run_of, with_progress
from distill.api.results import Results
from distill.api.session import call
from distill.base.files import remove_leftovers
from distill.base.folders import ClassFolders, find_split
from distill.base.records import DEFINITIONS
from distill.results.statistics import mean_and_half_width95
from distill.robustness.evaluate import Settings
from distill.robustness.probe.features import Bank, Embedding, open_training
from distill.robustness.probe.heads import METHODS, Kind, head_runs, kinds_of, labelled_images
from distill.robustness.probe.neighbours import NEIGHBOURS, TEMPERATURE
from distill.robustness.runs import Run
from distill.robustness.suite_table import plain_suite
from distill.robustness.suites import choose_suites


@call
def probe(
    models: Model | Sequence[Model],
    data_root: str | os.PathLike | None = None,
    suites: str | Sequence[str] | None = None,
    *,
    train: str | os.PathLike | None = None,
    methods: str | Sequence[str] = METHODS[:2],
    labels: float | Sequence[float] = 1.0,
    seeds: int | Sequence[int] = 0,
    neighbours: int = NEIGHBOURS,
    temperature: float = TEMPERATURE,
    out: str | os.PathLike | None = None,
    images: str | os.PathLike | Sequence[str | os.PathLike] = (),
    input_size: int | None = None,
    corruption_limit: int | None = None,
    definition: str = DEFINITIONS[0],
    extra_corruptions: bool = False,
    batch_size: int = 100,
    workers: int = 1,
    seed: int = 0,
    device: str | None = None,
    launcher: str = 'none',
    model_options: Mapping[str, Any] | None = None,
    progress: bool = True,
) -> 'ProbeResults':
    """Judge what frozen features are worth, by classifiers that learn from the labels of a training set.

    The same as ``robust-backbones probe``, with the same scores. Features are what a timm model's classifier is shown:
    pooled as the model pools, and after all of its norms. The classes are those of the training folders, and not those
    that a model was trained for, so a model needs no classifier. Each classifier is a run of ``results.json``, called
    ``<model>.<method>``, with the scores and intervals of any classifier, on the same images. Features of the training
    images are kept in ``out/features``; a network is run once for each image and corruption, whatever the number of
    classifiers.

    Args:
        models: As in `distill.evaluate`, with a classifier or without. Of a network of your own without timm's
            ``forward_features`` and ``forward_head``, what it returns are the features [B, D].
        data_root: Folder with ``train/``, ``val/``, ``stylized/``, ``rendition/``, …
        suites: Names of suites; None for all whose folder is there.
        train: Folder of training class folders, in place of ``train`` in ``data_root``.
        methods: Of ``knn`` (cosine similarity, k neighbours, votes weighted with temperature T as DINO's), ``linear``
            (logistic regression by L-BFGS) and ``ridge`` (ridge regression in closed form). The regulariser of the last
            two is chosen on a held-out fifth of the labelled training images.
        labels: Share of the labels of each class, or several: 0.1 learns from a tenth, one image at least.
        seeds: Of the choice of these images, one or several. With all labels the first is used.
        neighbours: k.
        temperature: T.
        out: Folder for ``results.json``, features, predictions and samples; None for a temporary one.
        images: Plain folders of images as well, with class folders.
        input_size: Side of the images in pixels in place of the models' own.
        corruption_limit: Corrupt so many images only, evenly chosen.
        definition: Whose elastic and frost are made: ``imagenet_c`` or ``imagecorruptions``.
        extra_corruptions: The four held-out kinds as well.
        batch_size: Images of a forward pass.
        workers: Processes that decode and corrupt images.
        seed: Seed of the corruptions.
        device: Device of torch; None for cuda if there is one, otherwise cpu.
        launcher: ``pytorch`` if torchrun has started this process, otherwise ``none``.
        model_options: What is said of all models that are named, as keywords of `backbones.load`.
        progress: Show a progress bar.

    Returns:
        The scores.

    Raises:
        FileNotFoundError: A model, the training folder, the data root or the folder of a suite does not exist.
        ValueError: A name or number is none of its choices, a model gives no features, the data is not complete, or
            ``out`` holds results of something else under the same names.
    """
    sources = named(models)
    names = [suites] if isinstance(suites, str) else list(suites) if suites is not None else None
    folders = [images] if isinstance(images, (str, os.PathLike)) else list(images)
    shares = [labels] if isinstance(labels, (int, float)) else list(labels)
    draws = [seeds] if isinstance(seeds, int) else list(seeds)
    methods = [methods] if isinstance(methods, str) else list(methods)
    check_least(1, input_size=input_size, corruption_limit=corruption_limit, batch_size=batch_size)
    check_least(0, workers=workers, seed=seed)
    check_probe(train, data_root, methods, shares, draws, neighbours, temperature)
    check_evaluation(list(sources), data_root, names, folders, out)
    device = join(launcher, device, out)
    options = {**(model_options or {})} | ({'input_size': input_size} if input_size is not None else {})
    root = os.fspath(data_root) if data_root is not None else ''
    with ExitStack() as stack:
        trunks = [run_of(one, model, device, options, stack, needs_classes=False) for one, model in sources.items()]
        training = Path(train) if train is not None else find_split(root, 'train')
        image_set = open_training(training, ClassFolders.read(training).classes)
        chosen, absent = choose_suites(names, root, image_set.classes) if root else ([], [])
        chosen += [plain_suite(Path(folder)) for folder in folders]
        missing = [suite.name for suite in absent]
        temporary = tempfile.TemporaryDirectory(prefix='probe-') if out is None else None
        folder = Path(temporary.name if temporary is not None else str(out))
        remove_leftovers(folder, folder / 'samples', folder / 'features', *folder.glob('predictions/*'))
        kinds = kinds_of(methods, shares, draws, neighbours, temperature)
        wanted = labelled_images(image_set.labels, kinds)
        banks = []
        for trunk in trunks:
            trunk.network = Embedding(trunk.network)
            path = folder / 'features' / f'{trunk.name}.npz'
            banks.append(Bank(trunk, image_set, wanted, path, batch_size, workers))
        runs = [run for trunk, bank in zip(trunks, banks, strict=True) for run in head_runs(trunk, bank, kinds)]
        settings = Settings(
            data_root=root,
            out=folder,
            batch_size=batch_size,
            workers=workers,
            seed=seed,
            corruption_limit=corruption_limit,
            extra_corruptions=extra_corruptions,
            definition=definition,
            command=command_of('probe', [trunk.name for trunk in trunks], root, names),
        )
        content = with_progress(runs, chosen, settings, progress, missing, banks)
    keys, run_names = [suite.key for suite in chosen], [run.name for run in runs]
    return ProbeResults(
        _groups(trunks, kinds), content, folder, run_names, keys, problem_lines(content, run_names), missing, temporary
    )


def _groups(trunks: Sequence[Run], kinds: Sequence[Kind]) -> dict[str, list[str]]:
    """Names of the runs by what differs in their seed alone."""
    groups: dict[str, list[str]] = {}
    for trunk in trunks:
        for kind in kinds:
            groups.setdefault(f'{trunk.name}: {kind.label}', []).append(f'{trunk.name}.{kind.name}')
    return groups


class ProbeResults(Results):
    """The scores of classifiers on frozen features, see `Results`; runs that differ in their seed alone share a row.

    Args:
        groups: Names of the runs of each row.
        *args: As in `Results`.

    Attributes:
        groups: Names of the runs of each row.
    """

    def __init__(self, groups: Mapping[str, Sequence[str]], *args):
        super().__init__(*args)
        self.groups = {row: list(runs) for row, runs in groups.items()}

    def rows(self) -> tuple[list[str], list[list[str]]]:
        """The table as text: the names of its columns, and a row a model, method and share of labels.

        A cell is a top-1 accuracy in percent with its 95 % interval: of one run Wilson's, over images; of several seeds
        their mean and Student's t interval, over the choice of labels on the same images.
        """
        head, plain = super().rows()
        cells = dict(zip(self.runs, (row[1:] for row in plain), strict=True))
        rows = []
        for name, runs in self.groups.items():
            if len(runs) == 1:
                rows.append([name, *cells[runs[0]]])
                continue
            row = [f'{name} ({len(runs)} seeds)']
            for suite in self.suites:
                mean, half = mean_and_half_width95([self[run][suite]['top1_pct'] for run in runs])
                row.append(f'{mean:.1f} ± {half:.1f}')
            rows.append(row)
        return head, rows
