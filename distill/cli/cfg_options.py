"""OpenMMLab's ``--cfg-options KEY=VALUE …``, read without mmengine, which takes long to import.

Values follow the rules of mmengine's ``DictAction``: ``1``, ``1e-3``, ``true`` and ``None`` are what they look like,
``1,2`` and ``[1,2]`` are lists, ``(1,2)`` is a tuple, brackets nest, and the rest is text. Differs from mmengine:
spaces inside a text stay, because a path may have some; mmengine removes them.
"""

import argparse

BRACKETS = {'(': ')', '[': ']'}


class CfgOptions(argparse.Action):
    """Collects ``KEY=VALUE`` arguments in a dict; a later value of a key replaces an earlier one."""

    def __call__(self, parser, namespace, values, option_string=None):
        options = dict(getattr(namespace, self.dest) or {})
        for setting in values:
            key, equals, value = setting.partition('=')
            if not equals:
                raise argparse.ArgumentError(self, f'{setting!r} has no value; give KEY=VALUE')
            try:
                options[key] = parse_value(value)
            except ValueError as error:
                raise argparse.ArgumentError(self, f'{setting!r}: {error}') from None
        setattr(namespace, self.dest, options)


def parse_value(text: str) -> object:
    """The value that a text stands for.

    Raises:
        ValueError: Its brackets do not match, or only a part of an element is in brackets.
    """
    text = text.strip().strip('\'"').strip()
    is_tuple, is_list = (text.startswith(a) and text.endswith(b) for a, b in BRACKETS.items())
    if not is_tuple and not is_list and ',' not in text:
        return _parse_scalar(text)
    elements = _split(text[1:-1] if is_tuple or is_list else text)
    if elements == [text]:
        raise ValueError(f'{text!r} has brackets that do not enclose it; put brackets around whole lists only')
    values = [parse_value(element) for element in elements]
    return tuple(values) if is_tuple else values


def _split(text: str) -> list[str]:
    """The elements between the commas that stand in no brackets; a comma at the end begins none."""
    depths = dict.fromkeys(BRACKETS, 0)
    elements = ['']
    for character in text:
        if character == ',' and not any(depths.values()):
            elements.append('')
            continue
        elements[-1] += character
        for opening, closing in BRACKETS.items():
            depths[opening] += (character == opening) - (character == closing)
    if any(depths.values()):
        raise ValueError(f'brackets in {text!r} do not match; close each one')
    elements = [element.strip() for element in elements]
    return elements if elements[-1] else elements[:-1]


def _parse_scalar(text: str) -> int | float | bool | str | None:
    for number in (int, float):
        try:
            return number(text.replace(' ', ''))
        except ValueError:
            pass
    return {'true': True, 'false': False}.get(text.lower(), None if text == 'None' else text)
