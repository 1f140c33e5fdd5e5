"""Weights of models: from files of any known format into a model, from image models to video models, and into files.

In reading order: ``formats``, ``digest``, ``reading`` (with ``inert``), ``loading``, ``saving``; ``inflate``,
``architecture``.
"""
