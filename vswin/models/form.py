"""Fast and reference form of a model: two implementations of the same computation."""

from __future__ import annotations

from enum import StrEnum

from torch import nn

from .choices import chosen


class Form(StrEnum):
    """``fast``: whatever was measured to be fastest on the device. ``reference``: the published algorithm, written
    plainly: roll, cut into windows, explicit scores, bias, mask, softmax, and the way back.
    """

    FAST = "fast"
    REFERENCE = "reference"


class TwoForms(nn.Module):
    """A module that computes in the form that :func:`set_form` gave it last."""

    form = Form.FAST


def set_form(model: nn.Module, form: Form | str) -> None:
    """Switch ``model`` to ``form``.

    Where results are compared or timed, the reference form is what to compare with. It changes no weight, no name in
    the state dict and no result beyond rounding, so no configuration knows it.

    Raises:
        ValueError: no such form.
    """
    form = chosen(Form, form, name="form")
    for module in model.modules():
        if isinstance(module, TwoForms):
            module.form = form
