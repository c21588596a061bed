"""``--cfg-options`` means what it means in mmengine."""

import argparse
import random

import pytest
from mmengine.config import DictAction

from distill.cli.cfg_options import CfgOptions, parse_value

VALUES = [
    *('1', '-3', '1_000', '1e-3', '.5', 'nan', '-inf', 'true', 'False', 'TRUE', 'None', 'none', '', 'a', 'a b', '1.2'),
    *('1,2', '1,', ',', ',,', '1,,2', 'a,b,', '[]', '()', '[1]', '(1,)', '[1,2]', '(1,2)', '(a, b)', '[[1,2],[3]]'),
    *('[(1, 2, 3), [a, b], c]', '[(1,2),(3,4)]', '((1,2),(3,(4,5)))', '[[]]', '[(),[]]', '1,[2,3]', '[1,2],3', '[,]'),
    *('"a"', "'1'", '"[1,2]"', "'1','2'", '["a","b"]', '"a,b"', "'", "''", 'x=1', 'work_dirs/a/b.pth', 'a,b=c'),
    *('[1,2', '1,2]', '(1,2]', '[1,(2]', '(1,2),(3,4)', 'a(1,2)', 'f(x)', '[', ')', '[(])', '([)]', '[1,(2,3)],4,'),
]  # fmt: skip


def meaning(parse, text: str) -> str:
    """The value that a text stands for, without spaces, or that it stands for none."""
    try:
        return repr(parse(text)).replace(' ', '')
    except (ValueError, AssertionError, RecursionError):
        return 'novalue'


@pytest.mark.parametrize(
    ('text', 'value'),
    [
        ('/my data/a b.pth', '/my data/a b.pth'),
        ('runs/x (1)/y.pth', 'runs/x (1)/y.pth'),
        ('[my data, 1 ,b]', ['my data', 1, 'b']),
        (' a ', 'a'),
    ],
)
def test_spaces_in_a_text_stay(text, value):
    assert parse_value(text) == value


@pytest.mark.parametrize('text', VALUES)
def test_a_value_is_mmengines(text):
    assert meaning(parse_value, text) == meaning(DictAction._parse_iterable, text)


def nested(choice: random.Random, depth: int = 2) -> str:
    """A text with brackets that match."""
    opening, closing = choice.choice(['[]', '()', ('', '')])
    elements = [
        nested(choice, depth - 1) if depth else choice.choice(['1', '-.5e1', 'a', '"b"', ''])
        for _ in range(choice.randrange(1, 4))
    ]
    return opening + ','.join(elements) + closing


def test_any_value_is_mmengines():
    choice, values = random.Random(0), set()
    for _ in range(2000):
        text = nested(choice)
        if choice.random() < 0.5:  # A mistake: a character too many or too few.
            place = choice.randrange(len(text) + 1)
            text = text[:place] + choice.choice('[](), ') + text[place + choice.randrange(2) :]
        assert meaning(parse_value, text) == meaning(DictAction._parse_iterable, text), text
        values.add(meaning(parse_value, text))
    assert len(values) > 300


def parser_with(action) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog='tool')
    parser.add_argument('--cfg-options', nargs='+', action=action)
    return parser


@pytest.mark.parametrize(
    'arguments',
    [
        [],
        ['--cfg-options', 'a=1', 'b.c=[1,2]', 'd=x=y', '=1', 'a.0.b='],
        ['--cfg-options', 'a=1', 'b=2', 'a=3', '--cfg-options', 'b=4', 'c=5'],
    ],
)
def test_settings_are_mmengines(arguments):
    assert parser_with(CfgOptions).parse_args(arguments) == parser_with(DictAction).parse_args(arguments)


@pytest.mark.parametrize(
    ('setting', 'message'),
    [
        ('lr', "'lr' has no value; give KEY=VALUE"),
        ('a=[1,(2]', "'a=[1,(2]': brackets in '1,(2' do not match; close each one"),
        ('a=f(1,2)', "'a=f(1,2)': 'f(1,2)' has brackets that do not enclose it"),
    ],
)
def test_a_mistake_is_one_line(setting, message, capsys):
    with pytest.raises(SystemExit) as error:
        parser_with(CfgOptions).parse_args(['--cfg-options', setting])
    assert error.value.code == 2
    assert capsys.readouterr().err.splitlines()[-1].startswith(f'tool: error: argument --cfg-options: {message}')
