"""The instructions world: requests in ordinary English, with answers that a program can check (docs/sandbox.md)."""
