"""Delivery of a run's model: merged weights, a model card, a GGUF file, an Ollama Modelfile, a push to the Hub."""

from drift.delivery.deliver import Delivery, DeliverySummary, deliver

__all__ = ["Delivery", "DeliverySummary", "deliver"]
