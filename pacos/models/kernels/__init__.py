"""Kernels: the inner loops of the training step, each beside a plain form of the same that the tests compare it to.

They take the place of what transformers' modules do by chains of small operations; the modules, their names and their
weights stay as they are.
"""
