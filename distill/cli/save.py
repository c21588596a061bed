"""Save a model as timm and the Hugging Face hub expect it: a folder of config.json, model.safetensors and a model card.

robust-backbones save work_dirs/RUN/student_best.safetensors models/RUN --results work_dirs/robustness
robust-backbones save work_dirs/RUN/student_best.pth models/RUN --push OWNER/NAME
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from distill.cli.arguments import check_can_write
from distill.cli.command import prepare_torch, run_command
from distill.results.schema import FILE_NAME
from distill.robustness.sources import Source

if TYPE_CHECKING:
    from backbones.loading import LoadedModel
    from backbones.record import ModelRecord
    from distill.report.model_card import Card


def build_parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('model', help='a file of weights, a folder, or a timm name: whatever backbones.load takes')
    parser.add_argument('folder', metavar='DIR', type=Path, help='folder to make')
    parser.add_argument(
        '--results',
        nargs='+',
        action='extend',
        default=[],
        metavar='FILE|DIR',
        help='results.json with scores of these very weights, for the model card',
    )
    parser.add_argument('--deploy', action='store_true', help='save the plain inference form of a Robust-ResNet')
    parser.add_argument('--name', help='name in the model card (default: of the repository, or of DIR)')
    parser.add_argument('--license', metavar='ID', help='licence of the weights, such as apache-2.0')
    parser.add_argument(
        '--dataset', nargs='+', action='extend', default=[], metavar='ID', help="the hub's names of the training data"
    )
    parser.add_argument('--overwrite', action='store_true', help='replace a model that this command has saved')
    parser.add_argument('--push', metavar='REPO', help='upload to OWNER/NAME on the Hugging Face hub too')
    parser.add_argument('--private', action='store_true', help='make a new repository private; it is public otherwise')
    return parser


def check(args: argparse.Namespace) -> None:
    """Check what needs no heavy import."""
    Source.parse(args.model).check()
    check_can_write(args.folder, 'DIR', is_folder=True)
    check_can_write(args.folder.absolute().parent, 'folder of DIR', is_folder=True)
    for path in map(Path, args.results):
        if not (path / FILE_NAME if path.is_dir() else path).is_file():
            raise FileNotFoundError(f"--results '{path}' is no {FILE_NAME}, nor a folder with one; correct the path")
    if args.private and not args.push:
        raise ValueError('--private is about a repository; give --push OWNER/NAME, or drop it')


def run(args: argparse.Namespace) -> dict:
    """Save; returns the folder, the hash of its weights and the address of the repository.

    Raises:
        OSError: The folder is there or cannot be written, or the hub does not take the model.
        ValueError: The model cannot be loaded, timm would make another one of what is saved, or the results are of
            other weights.
    """
    check(args)
    prepare_torch()
    import backbones
    from backbones.hub.folder import CARD, CONFIG, WEIGHTS
    from backbones.hub.writer import check_can_make, write_folder
    from distill.report.hub import check_repository, push
    from distill.report.model_card import render_card

    check_can_make(args.folder, args.overwrite)
    files = (CONFIG, WEIGHTS, CARD)
    if args.push:
        check_repository(args.push, files, args.overwrite)
    loaded = backbones.load(args.model)
    trained = loaded.record
    if args.deploy:
        loaded = plain_form(loaded)
    card = make_card(args, loaded, trained)
    facts = {**card.facts, **({'license': card.license} if card.license else {})}
    write_folder(args.folder, loaded.network, loaded.record, render_card(card), facts, args.overwrite)
    for note in loaded.notes:
        print(note)
    print(f"saved: {args.folder}; timm.create_model('local-dir:{args.folder}', pretrained=True) gives the same logits")
    done = {'folder': str(args.folder), 'weights_sha256': loaded.record.weights_sha256}
    if args.push:
        try:
            done['url'] = push(args.folder, files, args.push, args.private)
        except OSError as error:
            raise OSError(f"{error}; '{args.folder}' is complete: push it again with --overwrite") from error
        print(f'pushed: {done["url"]}')
    return done


def plain_form(loaded: 'LoadedModel') -> 'LoadedModel':
    """The plain inference form of a model.

    Raises:
        ValueError: It has none.
    """
    from backbones.checkpoint import weights_sha256
    from backbones.deploy import deploy, plain_arguments

    record = loaded.record
    arguments = {name: value for name, value in record.model_kwargs.items() if name != 'num_classes'}
    network = deploy(loaded.network, **arguments)
    name, kwargs = plain_arguments(network.pretrained_cfg['architecture'], record.model_kwargs)
    record = replace(record, model=name, model_kwargs=kwargs, weights_sha256=weights_sha256(network.state_dict()))
    return replace(loaded, network=network, record=record)


def make_card(args: argparse.Namespace, loaded: 'LoadedModel', trained: 'ModelRecord') -> 'Card':
    """What the model card is written from.

    Args:
        args: Parsed arguments.
        loaded: The model that is saved.
        trained: Record of the model as it was loaded.

    Raises:
        ValueError: The results are of other weights, or the licence is no identifier.
    """
    import timm

    from backbones.hub.writer import facts_of_source
    from backbones.zoo import FAMILIES
    from distill.report.card_scores import measured
    from distill.report.model_card import LICENSE, Card
    from distill.report.recipe import find_recipe
    from distill.robustness.runs import teacher_name

    record, facts = loaded.record, facts_of_source(loaded.source, loaded.file)
    license_ = args.license or facts.get('license')
    if license_ and not LICENSE.fullmatch(license_):
        raise ValueError(
            f"--license '{license_}' is no identifier of the hub; give one such as apache-2.0, mit or other"
        )
    architecture = record.model.partition('.')[0]
    is_own = timm.model_entrypoint(architecture).__module__.startswith('backbones')
    if is_own:  # The paper of the architecture is that of its weights.
        registered = timm.get_pretrained_cfg(architecture).to_dict()
        facts = {name: registered[name] for name in ('paper_ids', 'origin_url') if name in registered} | facts
    papers = [
        source
        for family in FAMILIES
        if architecture in (model.name for model in family.models)
        for source in family.sources
        if 'arxiv.org' in source or is_own
    ]
    return Card(
        name=args.name or (args.push or args.folder.absolute().name).rpartition('/')[2],
        record=record,
        params=sum(parameter.numel() for parameter in loaded.network.parameters()),
        where=f'hf-hub:{args.push}' if args.push else f'local-dir:{args.folder}',
        is_own=is_own,
        measured=measured(args.results, record.weights_sha256),
        teacher=teacher_name(record.teacher),
        recipe=find_recipe(loaded.file, trained.model, trained.seed)
        if loaded.file and trained.epoch is not None
        else None,
        deployed=args.deploy,
        license=license_,
        datasets=args.dataset,
        facts=facts,
        papers=papers,
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command."""
    return run_command(build_parser, run, argv)


if __name__ == '__main__':
    sys.exit(main())
