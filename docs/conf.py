"""The documentation site: ``make docs`` writes it to docs/_build/html. It needs no network."""

import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / 'docs' / '_ext')]

from distill import __version__ as release  # noqa: E402

project = 'Robust backbones'
author = 'the authors of Robust backbones'
html_title = f'Robust backbones {release}'
html_theme = 'furo'
html_static_path = ['_static']
html_css_files = ['site.css']
html_copy_source = False
html_show_sphinx = False
html_show_copyright = False

extensions = [
    'myst_nb',
    'sphinx.ext.autodoc',
    'sphinx.ext.napoleon',
    'sphinx.ext.viewcode',
    'sphinx_copybutton',
    'sphinx_design',
    'mermaid_picture',
]
exclude_patterns = ['_build', '_ext']

myst_enable_extensions = ['colon_fence', 'deflist']
myst_fence_as_directive = ['mermaid']
myst_heading_anchors = 3
# Notebooks are shown as they were last run: `make notebooks` runs them, and a test does.
nb_execution_mode = 'off'

autodoc_member_order = 'bysource'
autodoc_typehints = 'signature'
autodoc_preserve_defaults = True
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 88
napoleon_numpy_docstring = False
default_role = 'py:obj'  # `name` in a docstring links to what it names, if that has a page.
copybutton_exclude = '.linenos, .gp, .go'
