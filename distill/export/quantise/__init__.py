"""Quantise artefacts after training: int8 calibrated on images, or half precision, by what the engines offer.

One engine a file: `onnx_qdq` (ONNX Runtime), `nncf` (OpenVINO) and `mnn`. `calibration` reads the images, `sensitivity`
measures which layers int8 harms, and `artefact` joins them: fp32 file in, quantised file with its manifest out.
"""
