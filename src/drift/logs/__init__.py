"""Chat logs in: from files to stored conversations.

The trail of a file, in the order of the calls; each step hands a stream to the next:
  1. ingest.py: `ingest` (or `preview`) opens a transaction of the store and takes everything that `read_logs` yields
  2. files/sources.py: `find_logs` finds the files; files/opening.py: `open_log` unpacks and recodes one
  3. files/rows.py: `read_rows` cuts it into `LogRow`s; a row that cannot be read is a `Reject`
  4. reading.py: `recognise` chooses the format by the first rows
  5. readers/FAMILY/FORMAT.py: `read` turns rows into `ConversationDraft`s (draft.py), with convert.py: `one_per_row` or
     `many_per_row`; formats of single model calls use traces/, and also give `Evidence`: judgements in separate rows
  6. traces/stitching.py: `Stitcher` joins single calls and their judgements to conversations, after the last file
     readers/tables/joiner.py: `TableJoiner` does the same for rows of tables whose columns the user names
  7. draft.py: `finish` gives a draft its identity and split: a `Conversation`
  8. redaction/redact.py: `Redactor.each` replaces personal data
  9. ingest.py: consent and tombstones filter; store/writer.py: `StoreWriter.add`, `.quarantine` and `.commit` store
near_duplicates.py then notes which stored conversations nearly repeat others.
"""
