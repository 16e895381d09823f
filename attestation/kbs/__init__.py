"""Evidence in the form of the Confidential Containers KBS protocol, under its `coco-kbs` convention."""

from .appraisal import appraise_kbs, workload_of
from .evidence import KbsEvidence, additional_evidence, primary_evidence

__all__ = ["KbsEvidence", "additional_evidence", "appraise_kbs", "primary_evidence", "workload_of"]
