"""The report and the embedded data are made without torch, whose import takes seconds."""

import subprocess
import sys
from pathlib import Path

LIGHT = 'distill.report.write, distill.synthetic.imagenet_like, distill.synthetic.ade20k'


def test_report_and_data_need_no_torch():
    code = f'import sys, {LIGHT}; sys.exit("torch" in sys.modules)'
    assert subprocess.run([sys.executable, '-c', code], cwd=Path(__file__).parents[2]).returncode == 0
