"""The results of calibration in docs/results: real networks on real data, beside onnxruntime's own int8.

`networks` says what is measured, `pictures` and `prepare` make the data, `calibrations` runs the commands, `measure`
compares the models on the held-out data, `network` puts these together, `results` and `page` are what is written.
"""
