"""Requests and responses of model APIs, as they are stored or batched."""
