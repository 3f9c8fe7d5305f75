"""``FORMS``: the label format of each task; one module ``form_*`` a task."""

from __future__ import annotations

from ..manifest import Task
from . import form_classify, form_detect, form_obb, form_pose, form_segment
from .label_form import LabelForm

__all__ = ["FORMS"]

FORMS: dict[Task, LabelForm] = {
    module.FORM.task: module.FORM for module in (form_detect, form_segment, form_classify, form_pose, form_obb)
}
