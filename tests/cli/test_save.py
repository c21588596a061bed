"""`save`: a folder that timm reads, a model card with the scores of these very weights, and an upload."""

import json
import os
from pathlib import Path

import pytest
import timm
import torch
from hub_stub import Hub
from huggingface_hub import ModelCard

import backbones
from backbones.checkpoint import save_model, weights_sha256
from backbones.record import ModelRecord
from distill.cli.save import main
from distill.report.card_scores import measured
from distill.results.files import write_results

KWARGS = {'dims': [8, 8, 16, 16], 'depths': [1, 1, 1, 1], 'kernel_size': 3, 'patch_size': 4, 'num_classes': 2}
CONFIG = """model = dict(
    losses=[dict(type='soft_target_kl', weight=0.5)],
    student=dict(model='robust_resnet_dw_small'),
    type='Distiller')
randomness = dict(seed=3)
train_cfg = dict(by_epoch=True, max_epochs=9)
val_dataloader = dict(dataset=dict(root='data/mine', split='val', type='Views'))
"""


@pytest.fixture
def student(tmp_path, monkeypatch) -> Path:
    """A distilled student with its config, in the folder ``run`` of the current folder."""
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    record = ModelRecord(
        'robust_resnet_dw_small',
        KWARGS,
        teacher={'checkpoint': 'runs/deit/student_best.pth'},
        classes=['ant', 'bee'],
        input_size=[3, 32, 32],
        mean=[0.5, 0.5, 0.5],
        std=[0.25, 0.25, 0.25],
        epoch=9,
        seed=3,
        scores={'top1_pct': 61.5},
    )
    path = tmp_path / 'run' / 'student_best.safetensors'
    save_model(path, timm.create_model('robust_resnet_dw_small', **KWARGS), record)
    path.with_name('config.py').write_text(CONFIG)
    return path


def results_of(path: Path, sha256: str, top1_pct: float = 60.0, **sections) -> Path:
    """A file of results of one run, ``pupil``, in a folder."""
    run = {
        'model': 'robust_resnet_dw_small',
        'model_kwargs': KWARGS,
        'teacher': 'deit',
        'params': 1000,
        'checkpoint': None,
        'weights_sha256': sha256,
        'input_size': [3, 32, 32],
        'mean': [0.5] * 3,
        'std': [0.25] * 3,
    }
    entry = {'top1_pct': top1_pct, 'images': 200, 'fingerprint': {'weights': sha256, 'data': 'd' * 64}}
    corruption = {**entry, 'mean_error_pct': 100 - top1_pct, 'source': 'on-the-fly', 'cells': {'fog': [top1_pct] * 5}}
    results = {
        'schema_version': 1,
        'runs': {'pupil': run},
        'classification': {'pupil': {'clean': entry, 'corruption': corruption}},
        'provenance': {'versions': {'torch': '9.9'}, 'data': {'clean': {'root': 'data/mine/val', 'sha256': 'd' * 64}}},
        **sections,
    }
    write_results(path / 'results.json', results)
    return path


def saved_hash(student: Path) -> str:
    return ModelRecord.read(student).weights_sha256


def test_a_student_is_saved_with_all_that_is_known_of_it(student, capsys):
    assert main(['run/student_best.safetensors', 'out']) == 0
    before, after = backbones.load(student), backbones.load('out')
    images = torch.rand(2, 3, 32, 32)
    with torch.inference_mode():
        assert torch.equal(before.network(images), after.network(images))
    assert vars(after.record) == vars(before.record)
    text = Path('out/README.md').read_text()
    assert 'Nothing was measured' in text
    assert 'soft\\_target\\_kl' in text
    assert '9 epochs' in text
    assert 'distilled from **deit**' in text
    assert ModelCard.load('out/README.md').data.library_name == 'timm'


def test_scores_of_the_weights_are_in_the_card_with_interval_and_fingerprint(student):
    sha256 = saved_hash(student)
    results = results_of(Path('judged'), sha256)
    heads = {'detection': {'bbox_mAP': 0.412, 'images': 50, 'backbone': 'pupil'}}
    detector = Path('detector')
    write_results(detector / 'results.json', {'schema_version': 1, **heads})
    arguments = ['--results', str(results), str(detector / 'results.json'), '--license', 'mit', '--dataset', 'me/ants']
    assert main([str(student), 'out', *arguments]) == 0
    card = ModelCard.load('out/README.md')
    clean = next(one for one in card.data.eval_results if one.dataset_name == 'Clean of mine/val')
    assert (clean.metric_value, clean.metric_args['ci95_pct']) == (60.0, [53.08, 66.54])
    assert (card.data.license, card.data.datasets) == ('mit', ['me/ants'])
    assert 'knowledge-distillation' in card.data.tags
    for words in (sha256, 'd' * 16, '**60.0** | 53.1 – 66.5', 'box mAP 41.2', 'torch 9.9', 'not those of ImageNet-C'):
        assert words in card.content, words
    assert 'Clean is the set by which the epoch was chosen' in card.content
    assert json.loads(Path('out/config.json').read_text())['pretrained_cfg']['license'] == 'mit'


def test_scores_of_other_weights_are_refused(student, capsys):
    sha256 = saved_hash(student)
    other = results_of(Path('other'), 'e' * 64)
    mixed = results_of(Path('mixed'), sha256)
    content = json.loads((mixed / 'results.json').read_text())
    content['classification']['pupil']['clean']['fingerprint']['weights'] = 'e' * 64
    (mixed / 'results.json').write_text(json.dumps(content))
    contradicting = results_of(Path('contradicting'), sha256, 61.0)
    nameless, heads = Path('nameless'), Path('heads')
    write_results(nameless / 'results.json', {'schema_version': 1, 'scores': {'top1_pct': 99.0}})
    detection = {'bbox_mAP': 0.4, 'images': 5, 'backbone': 'pupil'}
    write_results(heads / 'results.json', {'schema_version': 1, 'detection': detection})
    good = results_of(Path('good'), sha256)
    for files, words in (
        ([other], 'has no score of the weights that are saved'),
        ([good, other], 'has no score of the weights that are saved'),
        ([mixed], 'are of weights eeeeeeeeeeee'),
        ([good, contradicting], 'contradicts a file before it'),
        ([nameless], 'does not say of which weights'),
        ([heads], 'with the backbone pupil'),
        ([other, heads], 'has no score'),
        ([Path('run')], 'nor a folder with one'),
    ):
        assert main([str(student), 'out', '--results', *map(str, files)]) == 1
        error = capsys.readouterr().err
        assert words in error
        assert error.count('\n') == 1
        assert not Path('out').exists()
    assert measured([good], sha256).suites[0].score.value == 60.0


@pytest.mark.parametrize(
    ('arguments', 'words'),
    [
        (['nowhere/student.pth', 'out'], 'does not exist'),
        (['no_such_net', 'out'], 'is unknown'),
        (['run/student_best.safetensors', 'run'], 'other files'),
        (['run/student_best.safetensors', '.'], 'the current one'),
        (['run/student_best.safetensors', 'run/config.py'], 'is a file'),
        (['run/student_best.safetensors', 'out', '--license', 'My Own Licence'], 'no identifier'),
        (['run/student_best.safetensors', 'out', '--private'], '--push'),
        (['run/student_best.safetensors', 'out', '--push', 'name'], 'OWNER/NAME'),
        (['run/student_best.safetensors', 'out', '--push', 'a b/c'], 'a b/c'),
        (['run/student_best.safetensors', 'out', '--push', 'a/b'], 'no token'),
    ],
)
def test_mistakes_are_one_line_and_write_nothing(student, capsys, monkeypatch, arguments, words):
    monkeypatch.delenv('HF_TOKEN', raising=False)
    monkeypatch.setattr('distill.report.hub.get_token', lambda: None)
    assert main(arguments) == 1
    error = capsys.readouterr().err
    assert words in error
    assert error.count('\n') == 1
    assert sorted(os.listdir()) == ['run']


def test_a_model_is_pushed_and_what_is_there_is_not_replaced_unasked(student, capsys, monkeypatch):
    hub = Hub()
    monkeypatch.setattr('huggingface_hub.constants.ENDPOINT', hub.address)  # HF_ENDPOINT, which is read once.
    monkeypatch.setattr('huggingface_hub.constants.HF_HUB_DISABLE_XET', True)
    monkeypatch.setattr('distill.report.hub.HfApi', _api_at(hub.address))
    monkeypatch.setenv('HF_TOKEN', 'hf_not_to_be_seen')
    assert main([str(student), 'out', '--push', 'me/ants', '--private']) == 0
    files = hub.repositories['me/ants']
    assert set(files) == {'config.json', 'model.safetensors', 'README.md'}
    for name, content in files.items():
        assert content == Path('out', name).read_bytes()
    assert hub.private == {'me/ants'}
    assert "timm.create_model('hf-hub:me/ants'" in Path('out/README.md').read_text()
    asked = len(hub.asked)
    assert main([str(student), 'again', '--push', 'me/ants']) == 1
    output = capsys.readouterr()
    assert "repository 'me/ants' has README.md" in output.err
    assert 'hf_not_to_be_seen' not in output.out + output.err
    assert not Path('again').exists()
    assert not [one for one in hub.asked[asked:] if not one.startswith('GET')]
    assert main([str(student), 'again', '--push', 'me/ants', '--overwrite', '--name', 'Ants']) == 0
    assert b'# Ants' in hub.repositories['me/ants']['README.md']
    hub.shutdown()


def _api_at(address: str):
    from huggingface_hub import HfApi

    return lambda **arguments: HfApi(endpoint=address, **arguments)


def test_the_deployed_form_is_saved_under_its_own_hash(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    kwargs = {**KWARGS, 'small_kernel_size': 1, 'layer_scale_init_value': 0.1}
    network = timm.create_model('robust_resnet_dw_small_rep', **kwargs).eval()
    save_model('rep.pth', network, ModelRecord('robust_resnet_dw_small_rep', kwargs, input_size=[3, 32, 32]))
    assert main(['rep.pth', 'plain', '--deploy']) == 0
    loaded = backbones.load('plain')
    assert loaded.record.model == 'robust_resnet_dw_small'
    assert 'small_kernel_size' not in loaded.record.model_kwargs
    assert loaded.record.weights_sha256 == weights_sha256(loaded.network.state_dict()) != saved_hash(Path('rep.pth'))
    images = torch.rand(2, 3, 32, 32)
    with torch.inference_mode():
        torch.testing.assert_close(loaded.network(images), network(images), rtol=1e-4, atol=1e-5)
    results = results_of(Path('judged'), saved_hash(Path('rep.pth')))
    assert main(['rep.pth', 'other', '--deploy', '--results', str(results)]) == 1
    assert 'of the weights that are saved' in capsys.readouterr().err
