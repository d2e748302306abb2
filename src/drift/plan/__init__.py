"""`drift run --plan`: what a run would do and cost, before it does anything."""

from drift.plan.costs import CONSTANTS, cost_table
from drift.plan.plan import PlannedStage, RunPlan, make_plan

__all__ = ["CONSTANTS", "PlannedStage", "RunPlan", "cost_table", "make_plan"]
