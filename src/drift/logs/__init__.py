"""Chat logs in: files are cut into rows (`rows`), a reader per format makes drafts of them (`readers`), and `ingest`
gives each its identity and split and puts it into the store, or names why not."""
