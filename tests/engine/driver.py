"""The command that the tests of faults kill: an ingestion in many small pieces, then the hash of the store's content.

python driver.py LOG STORE HOST:PORT
"""

import sys
from pathlib import Path

from drift.config import ClusterSettings
from drift.engine import open_engine
from drift.errors import DriftError
from drift.logs.ingest import ingest
from drift.logs.ingestion import pieces
from drift.progress import listening
from drift.store import Store

if __name__ == "__main__":
    log, store, address = Path(sys.argv[1]), Store(Path(sys.argv[2])), sys.argv[3]
    pieces.PIECE_BYTES, pieces.RANGE_BYTES = 2**17, 2**20
    try:
        with (
            listening(lambda *_: None, lambda note: print(note, file=sys.stderr, flush=True)),
            open_engine(ClusterSettings(address=address), store.path),
        ):
            ingest([log], store)
    except DriftError as error:
        sys.exit(f"error: {error}")
    print(store.content_hash())
