"""Results of the training companion for docs/results: strategies, time by layer, tuning, export.

Networks, data and machine are the user's to have; what is missing is said. Nothing of this is part of the package.
"""
