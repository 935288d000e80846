"""What is fitted to samples of a layer's input: hash parameters, and weights that make up for what reuse loses.

Calibration fits to a model's activations, training to a network's; nothing here knows where the samples come from.
"""
