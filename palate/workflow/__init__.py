"""What a recipe asks for, from tables to a published run: prepare, train each model after its teacher, publish, evaluate."""

from palate.workflow.measure import evaluate, write_report
from palate.workflow.prepared import Prepared, Report, load_world, past_of, prepare, quiet
from palate.workflow.publish import train
from palate.workflow.training import Training, choose_powers, fused, ordered, probabilities

__all__ = [
    "Prepared",
    "Report",
    "Training",
    "choose_powers",
    "evaluate",
    "fused",
    "load_world",
    "ordered",
    "past_of",
    "prepare",
    "probabilities",
    "quiet",
    "train",
    "write_report",
]
