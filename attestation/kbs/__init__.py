"""Evidence in the form of the Confidential Containers KBS protocol, under its `coco-kbs` convention."""

from .appraisal import appraise_kbs, workload_of
from .evidence import TEES as KBS_TEES
from .evidence import KbsEvidence, additional_evidence, primary_evidence

__all__ = [
    "KBS_TEES",
    "KbsEvidence",
    "additional_evidence",
    "appraise_kbs",
    "primary_evidence",
    "workload_of",
]
