"""What can go wrong, each with one sentence that names the file, node or option and the way out.

ShrinkSpeechError            everything below; the command line prints its text and exits with 2
├── InputError               a file, option or recipe that cannot be used as given
│   ├── LoadError            a model file: missing, untrusted, or not what it was taken for
│   ├── BudgetError          a budget that cannot be read or reached
│   ├── RecipeError          a recipe without what the fit needs
│   │   └── NotFiniteError   a loss or a gradient that is not finite in several steps in a row
│   └── AudioError           audio that is missing, unreadable or of the wrong rate
├── CaptureError             a model that torch.export cannot capture
│   └── NotRunningError      a model that does not run on its example inputs
├── RuleError                a rule of an operator that contradicts torch, loses an axis or fails
├── SliceError               a sliced graph that does not run or does not agree with its gated form
├── ExportError              an ONNX file that does not agree with the model, or could not be written
└── ProcessError             several processes that cannot work on one model, or one of them has gone
"""

from __future__ import annotations


class ShrinkSpeechError(Exception):
    """Base of all errors raised on purpose."""


class InputError(ShrinkSpeechError):
    """A file, option or recipe that cannot be used as given."""


class LoadError(InputError):
    """A model file that is missing, untrusted, or not what it was taken for."""


class BudgetError(InputError):
    """A budget that cannot be read or reached."""


class RecipeError(InputError):
    """A recipe without what the fit needs, or whose loss is not finite."""


class NotFiniteError(RecipeError):
    """A loss or a gradient that is not finite in several steps in a row."""


class AudioError(InputError):
    """Audio that is missing, unreadable or of the wrong rate."""


class CaptureError(ShrinkSpeechError):
    """A model that torch.export cannot capture."""


class NotRunningError(CaptureError):
    """A model that does not run on its example inputs; its own error is the cause."""


class RuleError(ShrinkSpeechError):
    """An operator's rule that contradicts torch, loses an axis or fails: to be mended in the rule, not in the model."""


class SliceError(ShrinkSpeechError):
    """A sliced graph that does not run or does not agree with its gated form."""


class ExportError(ShrinkSpeechError):
    """An ONNX file that does not agree with the model, or could not be written."""


class ProcessError(ShrinkSpeechError):
    """Several processes that cannot work on one model, or of which one has gone."""
