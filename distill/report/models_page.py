"""The page docs/models.md: every named model with its counted and published figures."""

from backbones.cost import Cost
from backbones.zoo import FAMILIES, Family, Published
from distill.base.markdown import table

MARKDOWN_HEADER = """# Models

Every name works with `timm.create_model` after `import backbones`. Parameters in millions, and GMACs (billions of
multiply-adds) of one image, are counted; published figures are in brackets. From the nearest number that rounds to
the published one, parameters are within 0.5 % and GMACs within 2 %, but for what a note explains. Strides and channels
are those of the feature maps. Made by `python tools/list_models.py --markdown`.
"""


def to_markdown(costs: dict[str, Cost]) -> str:
    """Lay out docs/models.md.

    Args:
        costs: Cost of each model by name.
    """
    return MARKDOWN_HEADER + ''.join(section(family, costs) for family in FAMILIES)


def section(family: Family, costs: dict[str, Cost]) -> str:
    """Lay out the part of docs/models.md about a family."""
    links = ', '.join(f'<{source}>' for source in family.sources)
    head = ['model', 'parameters', 'GMACs', 'pixels', 'strides', 'channels', f'{family.dataset} top-1 %']
    rows = [cells(published, costs[published.name]) for published in family.models]
    source = f'Source: {links}. {family.note}'.rstrip()
    return '\n'.join(['', f'## {family.title}', '', source, '', table(head, rows), ''])


def cells(published: Published, cost: Cost) -> list[str]:
    """A row of the table: name, parameters, GMACs, pixels, strides, channels, top-1."""
    gmacs = f'{published.gmacs}, see above' if published.at_odds else published.gmacs
    return [
        published.name,
        f'{cost.params:.2f} ({published.params or "–"})',
        f'{cost.gmacs:.3f} ({gmacs or "–"})',
        str(cost.size_px),
        ', '.join(map(str, cost.strides)),
        ', '.join(map(str, cost.channels)),
        published.top1 or '–',
    ]
