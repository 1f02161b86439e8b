"""Stages -> done. May import graph, io, hyperstack, errors; knows no operator by name."""
