"""Run the notebooks of this folder in an empty folder, and keep what they show.

python docs/notebooks/run.py                              all, and write their outputs
python docs/notebooks/run.py judge_a_model --check        one, and write nothing
"""

import argparse
import re
from pathlib import Path
from tempfile import TemporaryDirectory

import nbformat
from nbclient import NotebookClient

HERE = Path(__file__).parent
NOISE = re.compile(r'^.*(mmengine|Warning|autonotebook|index|DONE|\.\.\.$|Evaluate annotation).*\n', re.M)
"""Lines that say nothing to a reader of the site: the training's log is in the table below it."""


def run(path: Path) -> nbformat.NotebookNode:
    """Run a notebook; returns it with its outputs, without paths, times and noise.

    Raises:
        nbclient.exceptions.CellExecutionError: A cell fails.
    """
    notebook = nbformat.read(path, as_version=4)
    with TemporaryDirectory() as folder:
        resources = {'metadata': {'path': folder}}
        NotebookClient(notebook, timeout=600, resources=resources, record_timing=False).execute()
    for cell in notebook.cells:
        if cell.cell_type == 'code':
            tidy = [tidied(output, folder) for output in merged(cell.outputs)]
            cell.outputs = [output for output in tidy if output.get('text') != '']
    return notebook


def merged(outputs: list) -> list:
    """Outputs with all text of a cell in one piece."""
    texts = [output for output in outputs if output.output_type == 'stream']
    for other in texts[1:]:
        texts[0].text += other.text
    return [output for output in outputs if output.output_type != 'stream' or output is texts[0]]


def tidied(output: nbformat.NotebookNode, folder: str) -> nbformat.NotebookNode:
    """An output without the name of the folder, the noise, and a picture that the HTML beside it has too."""
    if output.output_type == 'stream':
        output.name = 'stdout'
        output.text = NOISE.sub('', output.text.replace(f'{folder}/', ''))
        return output
    for kind, content in output.data.items():
        if kind.startswith('text/'):
            output.data[kind] = content.replace(f'{folder}/', '')
    if 'base64,' in output.data.get('text/html', ''):
        output.data.pop('image/png', None)
    return output


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('names', nargs='*', default=sorted(path.stem for path in HERE.glob('*.ipynb')))
    parser.add_argument('--check', action='store_true', help='write nothing')
    args = parser.parse_args()
    for name in args.names:
        path = HERE / f'{name}.ipynb'
        notebook = run(path)
        if not args.check:
            nbformat.write(notebook, path)
        print(f'{name}: ran')


if __name__ == '__main__':
    main()
