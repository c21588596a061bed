"""The table of distillations: what each config inherits and names is there, and its two networks fit its losses."""

import re

import pytest

pytest.importorskip('mmdet')
pytest.importorskip('mmseg')

import backbones.openmmlab  # noqa: F401 - before anything imports mmcv's operators

# isort: split
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope

from distill.base.packaged import find
from distill.downstream.complete import complete
from distill.downstream.dense_teacher import describe
from distill.downstream.dense_terms.build import build_terms
from distill.downstream.student_config import student_alone
from downstream_configs._table_.distilled import FOLDER, ROWS, Distilled, distilled_list
from downstream_configs._table_.files import ROOT, path_of

TINY = [row for row in ROWS if 'tiny' in row.student]


def read(path) -> Config:
    return Config.fromfile(path, import_custom_modules=False, format_python_code=False)


@pytest.mark.parametrize('row', ROWS, ids=lambda row: row.name)
def test_a_config_is_its_students_with_the_model_wrapped(row):
    config, plain = read(ROOT / FOLDER / f'{row.name}.py'), read(path_of(row.student))
    teacher = read(find(config.model.teacher.config))
    assert teacher.default_scope == config.default_scope
    length = teacher.train_cfg.get('max_epochs') or teacher.train_cfg.max_iters
    assert re.fullmatch(rf'work_dirs/{re.escape(row.teacher)}/(epoch|iter)_{length}\.pth', row.checkpoint)
    build_terms(config.model.losses)
    # Nothing is added behind the config's back.
    assert complete(config) == []
    student_alone(config)
    for name in ('check_teacher', 'save_student'):
        config.default_hooks.pop(name)
    config.default_hooks.checkpoint.pop('save_best')
    assert config.to_dict() == plain.to_dict()


@pytest.mark.parametrize('row', TINY, ids=lambda row: row.name)
def test_small_networks_fit_their_losses(row):
    config = read(ROOT / FOLDER / f'{row.name}.py')
    settings = {'student': config.model.student, 'teacher': read(find(config.model.teacher.config)).model}
    with DefaultScope.overwrite_default_scope(config.default_scope):
        found = [describe(role, MODELS.build(model)) for role, model in settings.items()]
    for term in build_terms(config.model.losses):
        term.connect(*found)


def test_wrong_rows_are_named():
    with pytest.raises(ValueError, match="names 'cascade-rcnn_r51', which no row of the other tables gives"):
        Distilled('cascade-rcnn_r51', ROWS[0].teacher, 'pkd')
    with pytest.raises(ValueError, match=r"losses 'pdk' of .* are unknown; choose from pkd"):
        Distilled(ROWS[0].student, ROWS[0].teacher, 'pdk')
    with pytest.raises(ValueError, match='lacks the line'):
        distilled_list('# A page without its mark\n')
