"""The instructions world: requests in ordinary English whose answers a program can check (docs/instructions_world.md)."""
