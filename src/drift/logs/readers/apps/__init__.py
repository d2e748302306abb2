"""Exports of chat applications."""
