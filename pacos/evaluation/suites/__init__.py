"""Suites: fixed sets of prompts that say one thing of a model. Regression, red team, latency, memorization."""
