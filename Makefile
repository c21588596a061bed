# `make demo` and `make test` make an environment, install what is missing and run. VENV=path uses one that is there.
VENV ?= .venv
PYTHON ?= python3
BIN := $(VENV)/bin
ONEDL := .onedl
ENGINES := onnx onnxscript onnxruntime openvino nncf MNN executorch
MODULES := torch torchvision timm mmengine mmcv mmdet mmseg ftfy tensorboard matplotlib rich pytest xdist mypy faster_coco_eval argcomplete nbclient ipykernel submitit ray pyarrow datasets $(ENGINES)
SITE := sphinx furo myst_nb sphinx_copybutton sphinx_design

export PYTHONPATH := $(CURDIR)

.PHONY: help install onedl configs docs notebooks lint format test extras campaign demo demo-real clean

help:
	@echo 'make demo   the whole chain on embedded data: four to seven minutes on two cores, then open work_dirs/demo/report.html'
	@echo 'make demo-real DATA=FOLDER   the same on images of your own: FOLDER/<class>/… or FOLDER/{train,val}/<class>/…'
	@echo 'make test   the tests, and a smoke test on the second OpenMMLab stack'
	@echo 'make extras   every extra of the wheel in an environment of its own; EXTRAS="none robustness" says which'
	@echo 'make campaign   kills, bad input and hostile files against every command; MINUTES=10 says for how long'
	@echo 'make docs   the documentation site, in docs/_build/html; make notebooks runs its notebooks anew'
	@echo 'make lint   style and types'
	@echo 'make configs   write the configs, READMEs and metafiles that the tables of configs give: a minute or more'

install:
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -c 'import sys; from importlib.util import find_spec; sys.exit(not all(map(find_spec, sys.argv[1:])))' \
		$(MODULES) || { echo 'installing into $(VENV): some minutes'; \
		$(BIN)/python -m pip install -q -c constraints.txt -e '.[openmmlab,openvino,mnn,executorch,dev]'; }
	@# On a machine without a screen's libraries OpenCV's usual build does not load; its headless one does.
	@$(BIN)/python -c 'import cv2' 2> /dev/null || { $(BIN)/python -m pip uninstall -y opencv-python && \
		$(BIN)/python -m pip install -q -c constraints.txt --force-reinstall --no-deps opencv-python-headless; }

# The second stack beside the first, without a second torch: found first when its folder is first on the path.
onedl: install
	@test -d $(ONEDL)/mmseg || $(BIN)/python -m pip install -q -c constraints.txt --no-deps --target $(ONEDL) \
		onedl-mmengine onedl-mmcv onedl-mmdetection onedl-mmsegmentation imaug scikit-image imageio lazy-loader

# The tables are distill/configs/_table_ and downstream_configs/_table_; a test compares them with what is on disk.
configs: install
	$(BIN)/python -m distill.configs._table_
	$(BIN)/python -W ignore -m downstream_configs._table_

docs: install
	@$(BIN)/python -c 'import sys; from importlib.util import find_spec; sys.exit(not all(map(find_spec, sys.argv[1:])))' \
		$(SITE) || $(BIN)/python -m pip install -q -c constraints.txt -e '.[docs]'
	$(BIN)/python -m sphinx -q -E -W --keep-going -j auto docs docs/_build/html
	@echo 'open docs/_build/html/index.html'

notebooks: install
	$(BIN)/python docs/notebooks/run.py

lint: install
	$(BIN)/python -m ruff check .
	$(BIN)/python -m ruff format --check .
	$(BIN)/python -m mypy

format: install
	$(BIN)/python -m ruff check --fix .
	$(BIN)/python -m ruff format .

test: install onedl
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2
	OMP_NUM_THREADS=1 PYTHONPATH=$(ONEDL):$(CURDIR) $(BIN)/python -m pytest tests/smoke_onedl.py

extras: install
	$(BIN)/python tests/install/check_extras.py $(EXTRAS)

campaign: install
	OMP_NUM_THREADS=1 PYTHONPATH=$(CURDIR):tests $(BIN)/python -m campaign --minutes $(or $(MINUTES),10)

demo: install
	$(BIN)/python tools/demo.py

demo-real: install
	@test -n '$(DATA)' || { echo 'say which images: make demo-real DATA=FOLDER, with FOLDER/<class>/<image>'; exit 1; }
	$(BIN)/python tools/demo.py --data '$(DATA)'

clean:
	rm -rf $(ONEDL) work_dirs/demo work_dirs/demo_own docs/_build
