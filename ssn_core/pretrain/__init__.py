"""Pretraining of a backbone of our own on images that this package generates itself.

No photograph and no third-party weight takes part. `python -m ssn_core.pretrain --help` runs it.
"""
