"""The ingestion benchmark runs every step on its generated log, and its counts are what the log was made of."""

from drift.bench.ingest import bench_ingest


def test_every_step_is_measured():
    told = bench_ingest(300, seed=1)
    assert told.conversations == told.counts["read"] == 300
    assert list(told.steps) == ["generate", "ingest", "ingest_redacted", "near_duplicates", "labels", "pairs"]
    assert told.counts["accepted"] + told.counts["duplicate"] == 300
    assert 0 < told.counts["near_duplicates"] < 30
    assert told.counts["labels"] > 100
    assert told.counts["prompts"] > 0
    assert min(told.mb_per_second, told.mb_per_second_redacted, told.peak_rss_mb) > 0
