"""Picks layers, hash families, L and H from sample data, within an accuracy budget, by measurement."""
