"""`drift gate`: may this model go out? One target, guards with margins, and a verdict (docs/production.md)."""
