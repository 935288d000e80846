"""The mathematics of deep reuse: what a convolution is, hash families, cost model, policies and settings.

Nothing here knows ONNX graphs, files or operators' kernels; everything above imports from here.
"""
