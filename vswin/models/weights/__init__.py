"""Weights of models: from files of any known format into a model, from image models to video models, and into files.

In reading order: ``formats``, ``networks``, ``digest``, ``reading`` (with ``inert``), ``geometry``, ``loading``,
``saving``; ``inflate``, ``architecture``, ``pixels``.
"""
