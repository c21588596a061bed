"""The model card of a saved model: the ``README.md`` of a folder or a repository on the Hugging Face hub."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from huggingface_hub import EvalResult, ModelCardData

from backbones.record import ModelRecord
from distill.base.markdown import LEFT, RIGHT, escape, table
from distill.report.card_scores import Measured, SuiteScore
from distill.report.recipe import Recipe, recipe_rows
from distill.report.scores import kind_label, suite_label
from distill.results.statistics import Score

LICENSE = re.compile(r'[a-z0-9.+-]+')
"""What the hub takes for a licence's identifier."""

SOURCES = {'on-the-fly': 'that were corrupted on the fly, which are not those of ImageNet-C', 'disk': 'from disk'}
"""What the sources of corrupted images are called."""

HASHES = {'data': 'images', 'classes': 'names of classes'}
FACTS = {
    'cells': 'cells',
    'source': 'source',
    'definition': 'definition',
    'frost': 'frost',
    'corrupted_on': 'corrupted on',
    'seed': 'seed',
    'input_size': 'size',
    'transform': 'transform',
    'normalisation': 'mean and standard deviation',
}
"""What a fingerprint holds besides the hash of the weights, and what that is called."""

IMAGENET_ID = re.compile(r'n\d{8}')


@dataclass(frozen=True)
class Card:
    """What a model card is written from.

    Attributes:
        name: Name of the model for people.
        record: Its record, with the hash of the weights.
        params: Number of parameters.
        where: What timm loads it by: ``local-dir:FOLDER`` or ``hf-hub:REPO``.
        is_own: Whether timm knows the architecture only after ``import backbones``.
        measured: Scores, none if nothing was measured.
        teacher: Name of the teacher, or None.
        recipe: How it was trained, as far as a config tells.
        deployed: Whether the weights are the plain form of trained ones.
        license: Identifier of the licence of the weights, or None.
        datasets: Identifiers of data sets on the hub that it was trained on.
        facts: What timm knows of the weights: ``paper_ids``, ``origin_url``, ``tag``, ….
        papers: Addresses about the architecture.
    """

    name: str
    record: ModelRecord
    params: int
    where: str
    is_own: bool
    measured: Measured = field(default_factory=Measured)
    teacher: str | None = None
    recipe: Recipe | None = None
    deployed: bool = False
    license: str | None = None
    datasets: Sequence[str] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)
    papers: Sequence[str] = ()


def render_card(card: Card) -> str:
    """The card in the hub's Markdown, with its metadata in front."""
    sections = [
        f'---\n{card_metadata(card)}\n---',
        f'# {escape(card.name)}',
        _introduction(card),
        _use(card),
        _making(card),
        _scores(card),
        _origin(card),
        _rights(card),
    ]
    return '\n\n'.join(section for section in sections if section) + '\n'


def card_metadata(card: Card) -> str:
    """The metadata in YAML, as `huggingface_hub.ModelCardData` writes it."""
    record = card.record
    tags = ['image-classification', 'timm', 'robust-backbones']
    tags += ['knowledge-distillation'] if record.teacher else []
    tags += ['out-of-distribution'] if any(one.suite != 'clean' for one in card.measured.suites) else []
    datasets = list(card.datasets)
    if not datasets and _has_imagenet_classes(record):
        datasets = ['imagenet-1k']
    scores = [_eval_result(one) for one in card.measured.suites]
    return ModelCardData(
        library_name='timm',
        pipeline_tag='image-classification',
        license=card.license,
        tags=tags,
        datasets=datasets or None,
        metrics=['accuracy'] if scores else None,
        model_name=card.name if scores else None,
        eval_results=scores or None,
    ).to_yaml()


def _has_imagenet_classes(record: ModelRecord) -> bool:
    return len(record.classes or ()) == 1000 and all(map(IMAGENET_ID.fullmatch, record.classes or ()))


def _eval_result(one: SuiteScore) -> EvalResult:
    """A score as the hub's leaderboards take it."""
    name = f'{suite_label(one.suite)} of {_folder(one.root)}' if one.root else suite_label(one.suite)
    return EvalResult(
        task_type='image-classification',
        task_name='Image classification',
        dataset_type=re.sub(r'[^a-z0-9._-]+', '-', name.lower()).strip('-'),
        dataset_name=name,
        metric_type='accuracy',
        metric_name='Top-1 accuracy (%)',
        metric_value=round(one.score.value, 2),
        metric_args={'ci95_pct': [round(one.score.low, 2), round(one.score.high, 2)], 'images': one.entry['images']},
    )


def _folder(root: str) -> str:
    """The last parts of a path: what it is called, and not where somebody keeps it."""
    return '/'.join([part for part in root.replace('\\', '/').split('/') if part not in ('', '.', '..')][-2:])


def _introduction(card: Card) -> str:
    record = card.record
    parts = [
        f'`{record.model}` with {card.params / 1e6:.2f} M parameters',
        f'for {len(record.classes)} classes' if record.classes else '',
        f'of images of {_size(record)} pixels',
    ]
    text = ' '.join(part for part in parts if part) + '. '
    if card.teacher:
        text += f'It was distilled from **{escape(card.teacher)}** by robust-backbones.'
    elif record.epoch is not None:
        text += 'It was trained by robust-backbones, without a teacher.'
    else:
        text += 'It was saved by robust-backbones, which did not train it.'
    if card.deployed:
        text += (
            '\n\nThese weights are the plain inference form of trained ones: parallel branches are one kernel, and '
            'layer scale is in the layer before it. Outputs are those of the trained form up to rounding.'
        )
    return text


def _size(record: ModelRecord) -> str:
    return '×'.join(map(str, (record.input_size or [])[-2:]))


def _use(card: Card) -> str:
    imports = (
        'import backbones  # pip install robust-backbones: timm then knows this architecture\n' if card.is_own else ''
    )
    return f"""## Use

```python
{imports}import timm
import torch
from PIL import Image

model = timm.create_model('{card.where}', pretrained=True).eval()
transform = timm.data.create_transform(**timm.data.resolve_model_data_config(model), is_training=False)
with torch.inference_mode():
    probabilities = model(transform(Image.open('IMAGE').convert('RGB'))[None]).softmax(1)
```

With class names and all that is known of the model, by robust-backbones:

```python
import backbones

loaded = backbones.load('{card.where}')
loaded.network, loaded.classes, loaded.transform, loaded.record
```

As the backbone of a detector or segmenter, in a config of mmdet or mmsegmentation:

```python
custom_imports = dict(imports=['backbones.openmmlab'], allow_failed_imports=False)
backbone = dict(type='TimmBackbone', model='{card.where}', pretrained=True)
```

{_preprocessing(card.record)}"""


def _preprocessing(record: ModelRecord) -> str:
    rows = [
        ('Input', ' × '.join(map(str, record.input_size or []))),
        ('Mean', ' '.join(f'{value:g}' for value in record.mean or [])),
        ('Standard deviation', ' '.join(f'{value:g}' for value in record.std or [])),
        ('Share of the resized side that is shown', f'{record.crop_pct:g}' if record.crop_pct else ''),
        ('Crop', record.crop_mode or ''),
        ('Interpolation', record.interpolation or ''),
    ]
    return table(['Preprocessing', ''], [[name, escape(text)] for name, text in rows if text], LEFT * 2)


def _making(card: Card) -> str:
    record = card.record
    rows = [
        ('Architecture', f'`{record.model}`'),
        ('Arguments', ', '.join(f'`{name}={value}`' for name, value in record.model_kwargs.items())),
        ('Teacher', _teacher(card) if record.epoch is not None or card.teacher else ''),
        ('Corruptions seen in training', ', '.join(f'`{kind}`' for kind in record.seen_kinds or [])),
        ('Epoch', f'{record.epoch}, the best on the validation set' if record.epoch is not None else ''),
        ('Seed', str(record.seed) if record.seed is not None else ''),
    ]
    rows += [(f'Validation {escape(name)}', f'{value:.2f}') for name, value in record.scores.items()]
    rows += [(name, escape(text)) for name, text in recipe_rows(card.recipe)] if card.recipe else []
    text = '## How it was made\n\n' + table(['', ''], [[name, one] for name, one in rows if one], LEFT * 2)
    if record.scores and record.epoch is not None:
        text += '\n\nThe epoch was chosen by the validation score, which is therefore no measurement of the model.'
    if card.recipe:
        name, config = escape(card.recipe.name), card.recipe.text.strip()
        fence = '`' * max(3, *(len(run) + 1 for run in re.findall('`+', config) or ['']))
        shown = f'{fence}python\n{config}\n{fence}'
        text += f'\n\n<details><summary>The whole config, {name}</summary>\n\n{shown}\n\n</details>'
    elif record.epoch is not None:
        text += '\n\nThe config of the training was not beside the weights.'
    return text


def _teacher(card: Card) -> str:
    """The teacher's name, with its architecture where the results have it as well."""
    run = card.measured.others.get(card.teacher or '')
    return escape(card.teacher or 'none') + (f' (`{run["model"]}`)' if run else '')


def _scores(card: Card) -> str:
    measured = card.measured
    if not measured.suites and not measured.downstream:
        return (
            '## Scores\n\nNothing was measured: no `results.json` was given when this model was saved. '
            '`robust-backbones robustness` measures it.'
        )
    parts = ['## Scores']
    if measured.suites:
        parts += [_suite_table(measured.suites), *_suite_notes(measured.suites)]
        parts += _chosen_by(card)
        parts += [_cells(one) for one in measured.suites if one.entry.get('cells')]
    parts += [_downstream(section, entry) for section, entry in measured.downstream]
    return '\n\n'.join(parts)


def _suite_table(suites: Sequence[SuiteScore]) -> str:
    """A row for each suite; columns that no suite fills are left out."""
    head = ['Suite', 'Top-1 %', '95 % interval', 'Top-5 %', 'Calibration error %', 'Shape bias %', 'mCE %', 'Classes']
    head += ['Images', 'Data']
    rows = []
    for one in suites:
        entry = one.entry
        numbers = [_number(entry.get(key)) for key in ('top5_pct', 'ece_pct', 'shape_bias_pct', 'mce_pct')]
        classes = str(entry.get('classes', ''))
        data = escape(_folder(one.root)) if one.root else ''
        rows.append([suite_label(one.suite), f'**{one.score.value:.1f}**', _interval(one.score), *numbers, classes])
        rows[-1] += [f'{entry["images"]:,}', data]
    used = [index for index in range(len(head)) if any(row[index] for row in rows)]
    align = [LEFT, *RIGHT * 8, LEFT]
    cells = [[escape(row[index]) if index == 0 else row[index] for index in used] for row in rows]
    return table([head[index] for index in used], cells, ''.join(align[index] for index in used))


def _suite_notes(suites: Sequence[SuiteScore]) -> list[str]:
    notes = ["Intervals are Wilson's where the results have no others."]
    for one in suites:
        entry = one.entry
        if entry.get('cells'):
            count = sum(map(len, entry['cells'].values()))
            made = SOURCES.get(entry['source'], entry['source'])
            notes.append(
                f'{suite_label(one.suite)}: mean over {count} cells of images {made}; mean error '
                f'{entry["mean_error_pct"]:.1f} %, not normalised. The interval counts an image once.'
            )
        if entry.get('problems'):
            listed = ', '.join(f'{count:,} {name.replace("_", " ")}' for name, count in entry['problems'].items())
            notes.append(f'{suite_label(one.suite)}: {listed}.')
    return [escape(' '.join(notes))]


def _chosen_by(card: Card) -> list[str]:
    """A note on the suite by whose images the epoch was chosen."""
    dataset = card.recipe.value('val_dataloader.dataset') if card.recipe else None
    if not isinstance(dataset, dict) or card.record.epoch is None:
        return []
    folder = _folder(f'{dataset.get("root") or dataset.get("data_root") or ""}/{dataset.get("split") or ""}')
    same = [
        suite_label(one.suite) for one in card.measured.suites if one.suite == 'clean' and _folder(one.root) == folder
    ]
    return [f'{same[0]} is the set by which the epoch was chosen: its score is a little too good.'] if same else []


def _cells(one: SuiteScore) -> str:
    rows = [
        [escape(kind_label(kind)), *(f'{value:.1f}' for value in values), f'{sum(values) / len(values):.1f}']
        for kind, values in {**one.entry['cells'], **one.entry.get('extra_cells', {})}.items()
    ]
    head = ['Corruption', '1', '2', '3', '4', '5', 'Mean']
    title = f'Top-1 % on {suite_label(one.suite).lower()} by kind and severity'
    plus = '\n\nKinds with + are held out and part of no mean.' if one.entry.get('extra_cells') else ''
    return f'<details><summary>{escape(title)}</summary>\n\n{table(head, rows)}{plus}\n\n</details>'


def _downstream(section: str, entry: dict) -> str:
    """A detector or segmenter with this backbone."""
    names = {'bbox_mAP': 'box mAP', 'segm_mAP': 'mask mAP', 'mIoU': 'mIoU', 'mAcc': 'mAcc', 'aAcc': 'aAcc'}
    scores = [f'{label} {100 * entry[key]:.1f}' for key, label in names.items() if key in entry]
    under = entry.get('corruption') or {}
    shaken = [
        f'{label} {100 * under[key]["mPC"]:.1f} under corruption'
        + (f' ({under[key]["rPC_pct"]:.0f} % of clean)' if under[key].get('rPC_pct') is not None else '')
        for key, label in names.items()
        if key in under
    ]
    config = f' by `{_folder(entry["config"])}`' if entry.get('config') else ''
    what = 'Detection' if section == 'detection' else 'Segmentation'
    numbers = ', '.join([*scores, *shaken])
    return f'**{what}** with this backbone, trained{config}, on {entry["images"]:,} images, in percent: {numbers}.'


def _origin(card: Card) -> str:
    """Fingerprints: of the weights, of the images of each score, and what measured them."""
    rows = [['Weights', f'SHA-256 `{card.record.weights_sha256}`']]
    prints = [_fingerprint(one) for one in card.measured.suites]
    shared = [fact for fact in prints[0] if all(fact in facts for facts in prints)] if len(prints) > 1 else []
    if shared:
        rows.append(['Every suite', ', '.join(shared)])
    for one, facts in zip(card.measured.suites, prints, strict=True):
        own = ', '.join(fact for fact in facts if fact not in shared)
        rows.append([escape(suite_label(one.suite)), own or 'the results have no fingerprint'])
    for source in card.measured.provenances:
        versions = ', '.join(f'{name} {version}' for name, version in source.get('versions', {}).items())
        facts = [source.get('created', ''), versions, source.get('device', '')]
        facts += [f'seed {source["seed"]}'] if source.get('seed') is not None else []
        rows.append(['Measured', escape(', '.join(fact for fact in facts if fact))])
    text = '## Where the numbers come from\n\n' if len(rows) > 1 else '## Fingerprint\n\n'
    return text + table(['', ''], rows, LEFT * 2)


def _fingerprint(one: SuiteScore) -> list[str]:
    """What a score follows from."""
    print_ = one.entry.get('fingerprint', {})
    facts = [f'{words} `{print_[name][:16]}`' for name, words in HASHES.items() if print_.get(name)]
    return facts + [
        escape(f'{words} {_plain(print_[name])}') for name, words in FACTS.items() if print_.get(name) is not None
    ]


def _plain(value: object) -> str:
    if isinstance(value, dict):
        return ' '.join(f'{key}={_plain(one)}' for key, one in value.items())
    if not isinstance(value, list):
        return str(value)
    return ('×' if all(isinstance(one, int) for one in value) else ' ').join(map(_plain, value))


def _rights(card: Card) -> str:
    license_ = f'`{card.license}`' if card.license else 'not stated; ask whoever gave you the weights before using them'
    lines = ['## Licence and sources', f'Licence of the weights: {license_}.']
    papers = [one for one in _paper_links(card.facts.get('paper_ids')) if one not in card.papers]
    sources = [*papers, *([card.facts['origin_url']] if card.facts.get('origin_url') else []), *card.papers]
    if sources:
        lines.append(
            'Please cite the sources of the architecture and the weights: ' + ', '.join(dict.fromkeys(sources))
        )
    if card.record.teacher:
        lines.append('What holds for the weights and the data of the teacher may hold for its student too.')
    return '\n\n'.join(lines)


def _paper_links(ids: object) -> list[str]:
    """Addresses of papers, of timm's ``paper_ids``: ``arXiv:2206.03452``, one or several."""
    listed = [ids] if isinstance(ids, str) else list(ids) if isinstance(ids, (list, tuple)) else []
    return [f'https://arxiv.org/abs/{one[6:]}' if str(one).lower().startswith('arxiv:') else str(one) for one in listed]


def _number(value: float | None) -> str:
    return '' if value is None else f'{value:.1f}'


def _interval(score: Score) -> str:
    return f'{score.low:.1f} – {score.high:.1f}'
