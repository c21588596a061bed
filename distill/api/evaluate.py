"""Judge models on clean, stylized, corrupted, rendition, sketch and adversarial images."""

import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import distributed, nn

import backbones
from backbones.checkpoint import weights_sha256
from backbones.loading import LoadedModel
from backbones.sources.own import class_name, unaltered
from distill.api.checks import check_evaluation, check_launcher, check_least
from distill.api.results import Results
from distill.api.session import call
from distill.api.spread import Share, as_words, check_share, spread
from distill.base.files import remove_leftovers, write_json
from distill.base.processes import cuda_or_cpu
from distill.base.records import CORRUPTED_ON, DEFINITIONS
from distill.base.screen import counting_progress, screen
from distill.report.tables import seen_notes
from distill.results.provenance import command_line
from distill.robustness.evaluate import Settings
from distill.robustness.evaluate import evaluate as evaluate_runs
from distill.robustness.probe.features import Bank
from distill.robustness.runs import Run, find_classes, load_run, make_run
from distill.robustness.sources import Source
from distill.robustness.suite_table import Suite, plain_suite
from distill.robustness.suites import choose_suites

Model = str | os.PathLike | nn.Module | LoadedModel | Mapping
"""A model to judge: a source of `backbones.load`, a network, or what `backbones.load` takes as a dictionary."""


@call
def evaluate(
    models: Model | Sequence[Model],
    data_root: str | os.PathLike | None = None,
    suites: str | Sequence[str] | None = None,
    *,
    out: str | os.PathLike | None = None,
    images: str | os.PathLike | Sequence[str | os.PathLike] = (),
    input_size: int | None = None,
    corruption_limit: int | None = None,
    definition: str = DEFINITIONS[0],
    extra_corruptions: bool = False,
    corrupt_on: str = CORRUPTED_ON[0],
    baselines: Sequence[str] = (),
    batch_size: int = 100,
    workers: int = 1,
    seed: int = 0,
    device: str | None = None,
    launcher: str = 'none',
    model_options: Mapping[str, Any] | None = None,
    engine: str | None = None,
    jobs: int | None = None,
    engine_options: Mapping[str, Any] | None = None,
    share: Share | None = None,
    progress: bool = True,
) -> Results:
    """Judge models side by side, on the same images.

    The same as ``robust-backbones robustness``, with the same scores. Scores that ``out`` has already are not computed
    again, and an evaluation that was stopped goes on where it was.

    Args:
        models: One model or several: timm names, files, folders and other sources of `backbones.load`; networks of
            your own; what `backbones.load` returns; or a dictionary ``{name of the run: model}``. There a model may
            also be ``dict(model=network, mean=…, std=…, classes=…, input_size=…)``. A network is called with
            normalised images [B, 3, H, W], gives logits [B, K], and is given back as it was.
        data_root: Folder with ``val/``, ``stylized/``, ``rendition/``, …
        suites: Names of suites; None for all whose folder is there.
        out: Folder for ``results.json``, predictions and samples; None for a temporary one, which goes with the result.
        images: Plain folders of images as well, with class folders or without labels.
        input_size: Side of the images in pixels in place of the models' own.
        corruption_limit: Corrupt so many images only, evenly chosen.
        definition: Whose elastic and frost are made: ``imagenet_c`` or ``imagecorruptions``.
        extra_corruptions: The four held-out kinds as well.
        corrupt_on: ``cpu``, where ``workers`` corrupt the images that they decode, or ``device``, where the models run:
            batches on a card, with the same random numbers.
        baselines: Runs that effective robustness is measured against.
        batch_size: Images of a forward pass.
        workers: Processes that decode and corrupt images.
        seed: Seed of the corruptions.
        device: Device of torch; None for cuda if there is one, otherwise cpu.
        launcher: ``pytorch`` if torchrun has started this process, otherwise ``none``.
        model_options: What is said of all models that are named, as keywords of `backbones.load`: ``mean``, ``std``,
            ``crop_pct``, ``classes``, ``num_classes``.
        engine: Spread the images over processes: ``local`` (this machine), ``slurm`` or ``ray``; None does all here.
        jobs: How many processes; None for 2 here and 64 on a cluster.
        engine_options: Settings of the engine, as `distill.transfer` takes them.
        share: Predict the share ``(i, n)`` of the images only, from ``(0, n)`` to ``(n - 1, n)``, and leave the scores
            to a call without it, with the same ``out``.
        progress: Show a progress bar.

    Returns:
        The scores.

    Raises:
        FileNotFoundError: A model, the data root or the folder of a suite does not exist.
        ValueError: A name is unknown, the models do not share their classes, the data is not complete, or ``out`` holds
            results of other models under the same names.
    """
    models_by_source = named(models)
    names = [suites] if isinstance(suites, str) else list(suites) if suites is not None else None
    folders = [images] if isinstance(images, (str, os.PathLike)) else list(images)
    check_least(1, input_size=input_size, corruption_limit=corruption_limit, batch_size=batch_size)
    check_least(0, workers=workers, seed=seed)
    if definition not in DEFINITIONS:
        raise ValueError(f"definition '{definition}' is unknown; choose from {', '.join(DEFINITIONS)}")
    if corrupt_on not in CORRUPTED_ON:
        raise ValueError(f"corrupt_on '{corrupt_on}' is unknown; choose from {', '.join(CORRUPTED_ON)}")
    check_evaluation(list(models_by_source), data_root, names, folders, out)
    check_share(share)
    if out is None and (engine is not None or share is not None):
        raise ValueError('several processes meet in one folder; give out')
    if engine is not None:
        said = {**(model_options or {}), 'input_size': input_size}
        words = _words(models_by_source, data_root, names, folders, said, Path(out))
        options = dict(corruption_limit=corruption_limit, definition=definition, corrupt_on=corrupt_on)
        options |= dict(extra_corruptions=extra_corruptions, batch_size=batch_size, workers=workers)
        options |= dict(seed=seed, device=device, out=out)
        say = print if progress else lambda line: None
        spread([*words, *as_words(options)], Path(out), engine, jobs, engine_options, say=say)
    device = join(launcher, device, out)
    options = {**(model_options or {})} | ({'input_size': input_size} if input_size is not None else {})
    root = os.fspath(data_root) if data_root is not None else ''
    with ExitStack() as stack:
        runs = [run_of(source, model, device, options, stack) for source, model in models_by_source.items()]
        find_classes(runs, root or None)
        chosen, absent = choose_suites(names, root, runs[0].classes or []) if root else ([], [])
        chosen += [plain_suite(Path(folder)) for folder in folders]
        missing = [suite.name for suite in absent]
        temporary = tempfile.TemporaryDirectory(prefix='robustness-') if out is None else None
        folder = Path(temporary.name if temporary is not None else str(out))
        if share is None:  # Other shares are writing.
            remove_leftovers(folder, folder / 'samples', *folder.glob('predictions/*'))
        settings = Settings(
            data_root=root,
            out=folder,
            batch_size=batch_size,
            workers=workers,
            seed=seed,
            corruption_limit=corruption_limit,
            extra_corruptions=extra_corruptions,
            definition=definition,
            corrupt_on=corrupt_on,
            baselines=list(baselines),
            share=share,
            command=command_of('evaluate', [run.name for run in runs], root, names),
        )
        content = with_progress(runs, chosen, settings, progress, missing)
    keys, run_names = [suite.key for suite in chosen], [run.name for run in runs]
    notes = [*problem_lines(content, run_names), *missing_clean_lines(content, run_names, chosen)]
    notes += seen_notes(content, runs=run_names)
    return Results(content, folder, run_names, keys, notes, missing, temporary)


def named(models: Model | Sequence[Model]) -> dict[Source, Any]:
    """The models by the name of their run and where they come from."""
    given: list[tuple[str | None, Any]]
    if isinstance(models, Mapping) and not isinstance(models.get('model'), nn.Module):
        given = [(str(name), model) for name, model in models.items()]
    elif isinstance(models, Sequence) and not isinstance(models, str):
        given = [(None, model) for model in models]
    else:
        given = [(None, models)]
    found: dict[Source, Any] = {}
    names = []
    for name, model in given:
        if isinstance(model, (str, os.PathLike)):
            source = Source.parse(os.fspath(model))
        else:
            network = model.get('model') if isinstance(model, Mapping) else getattr(model, 'network', model)
            if not isinstance(network, nn.Module):
                raise ValueError(f'{model!r} is no model; give a name, a path, a network, or a dict with it as model')
            origin = model.source if isinstance(model, LoadedModel) else type(network).__name__
            source = Source(Source.parse(origin).name, class_name(network), is_file=False)
        source = Source(name, source.path, source.is_file) if name is not None else source
        if source in found or source.name in names:
            raise ValueError(f"two runs are called '{source.name}'; give a dictionary {{name: model}}")
        found[source] = model
        names.append(source.name)
    return found


def _words(
    named: Mapping[Source, Any],
    data_root: str | os.PathLike | None,
    suites: Sequence[str] | None,
    images: Sequence[str | os.PathLike],
    model_options: Mapping[str, Any],
    out: Path,
) -> list[str]:
    """The command that judges the same models, for other processes."""
    for source, model in named.items():
        if not isinstance(model, (str, os.PathLike)):
            raise ValueError(f"'{source.name}' is a network of this process, which others lack; save it to a file")
    models = [f'{source.name}={source.path}' for source in named]
    options = {'model_name' if name == 'model' else name: value for name, value in model_options.items()}
    if options.pop('classes', None) is not None:
        options['class_names'] = out / 'class_names.json'
        write_json(options['class_names'], model_options['classes'])
    return ['robustness', *models, *as_words(dict(options, data_root=data_root, suite=suites, images=images))]


def join(launcher: str, device: str | None, out: str | os.PathLike | None) -> str:
    """Join the processes of an evaluation; returns the device of this one."""
    if launcher not in ('none', 'pytorch'):
        raise ValueError(f"launcher '{launcher}' is unknown; choose from none, pytorch")
    check_launcher(launcher)
    device = device or cuda_or_cpu()
    if launcher == 'none':
        return device
    if out is None:
        raise ValueError('several processes meet in one folder; give out')
    # Processes exchange nothing but barriers, so gloo serves on any device.
    distributed.init_process_group('gloo')
    return f'cuda:{os.environ["LOCAL_RANK"]}' if device == 'cuda' else device


def run_of(
    source: Source, model: Any, device: str, options: Mapping[str, Any], stack: ExitStack, needs_classes: bool = True
) -> Run:
    """The run of a model.

    Args:
        source: The name of the run, and where the model comes from.
        model: The model as the user gives it.
        device: Where it runs.
        options: What is said of models that are named, as keywords of `backbones.load`.
        stack: Gives a network back as it was.
        needs_classes: Whether the model is judged as it is, and not its features.
    """
    if isinstance(model, (str, os.PathLike)):
        return load_run(f'{source.name}={source.path}', device, needs_classes=needs_classes, **options)
    given = model.get('model') if isinstance(model, Mapping) else model
    network: Any = getattr(given, 'network', given)
    stack.enter_context(unaltered(network))
    said = {key: value for key, value in model.items() if key != 'model'} if isinstance(model, Mapping) else {}
    if isinstance(given, LoadedModel):
        record, side = given.record, options.get('input_size')
        if side and given.fixed_size not in (None, (side, side)):
            sides = 'x'.join(map(str, given.fixed_size))
            raise ValueError(f"'{source.name}' takes images of {sides} pixels only; leave out input_size")
        record = replace(record, input_size=[3, side, side] if side else record.input_size)
        # Of the weights as they are now: the network may have been trained since it was loaded.
        record = replace(record, weights_sha256=weights_sha256(network.state_dict()))
    else:
        given = backbones.load(network, **{**options, **said})
        record = replace(given.record, model=class_name(network))
    params = sum(parameter.numel() for parameter in network.parameters())
    network = network.eval().to(device)
    origin = given.source, given.file, given.notes
    return make_run(source.name, network, record, device, params, *origin, needs_classes)


def command_of(call: str, runs: Sequence[str], data_root: str, suites: Sequence[str] | None) -> str:
    """What ``results.json`` calls the origin of its numbers: the command line, or this call in a notebook."""
    if Path(sys.argv[0]).stem not in ('ipykernel_launcher', ''):
        return command_line()
    return f'distill.{call}({list(runs)}, {data_root!r}, {suites!r})'


def with_progress(
    runs: list[Run],
    suites: list[Suite],
    settings: Settings,
    progress: bool,
    absent: Sequence[str],
    banks: Sequence[Bank] = (),
) -> Mapping[str, Any]:
    """Evaluate under a progress bar. Before it stands what was done to load the models, and which suites are not there.

    Args:
        runs: The runs.
        suites: The suites.
        settings: How to run.
        progress: Whether there is a bar.
        absent: Names of suites that are not there.
        banks: Training features that classifiers among the runs learn from.

    Returns:
        The contents of results.json.
    """
    is_first = not distributed.is_initialized() or distributed.get_rank() == 0
    console = screen(quiet=not (progress and is_first))
    for note in dict.fromkeys(f'{run.name}: {note}' for run in runs for note in run.notes):
        console.print(note)
    if absent:
        console.print(f'not there, left out: {", ".join(absent)}')
    with counting_progress(console, disable=console.quiet) as bar:
        task = bar.add_task('predictions', total=None)
        settings.begin = lambda count: bar.update(task, total=count)
        settings.advance = lambda count: bar.advance(task, count)
        if banks:
            learning = bar.add_task('training images', total=sum(len(bank.chosen) for bank in banks), visible=False)
        for bank in banks:
            bank.advance = lambda count: bar.update(learning, advance=count, visible=True)
        return evaluate_runs(runs, suites, settings)


def problem_lines(results: Mapping[str, Any], names: Sequence[str]) -> list[str]:
    """The problems with images and logits that were counted while evaluating, a line each."""
    words = {
        'nan_logits': 'predictions from logits that are not finite, counted as wrong',
        'grayscale_images': 'grayscale images, shown in RGB',
        'cmyk_images': 'CMYK images, converted to RGB',
        '16_bit_images': 'images with 16 bits a channel, scaled to 8 bits',
    }
    return [
        f'{name}, {suite}: {count} {words.get(problem, problem.replace("_", " ") + ", converted to RGB")}'
        for section in ('classification', 'unlabelled')
        for name in names
        for suite, entry in results.get(section, {}).get(name, {}).items()
        for problem, count in entry.get('problems', {}).items()
    ]


def missing_clean_lines(results: Mapping[str, Any], names: Sequence[str], suites: Sequence[Suite]) -> list[str]:
    """The suites of fewer classes whose clean accuracy on these classes is not known, a line each."""
    lines = []
    for suite in suites:
        entries = [results['classification'].get(name, {}).get(suite.key, {}) for name in names]
        if suite.subset and any('clean_subset_top1_pct' not in entry for entry in entries):
            lines.append(f'{suite.key}: no clean accuracy on its classes to stand beside it; evaluate clean as well')
    return lines
