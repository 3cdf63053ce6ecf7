"""pacos: make, measure and ship a small instruction-following model of your own."""

__version__ = "0.1.0"
