from drift.progress import listening, part_of, report_progress


def test_the_progress_of_parts_is_that_of_the_whole():
    told: list[tuple[int, int, int]] = []
    with listening(lambda *progress: told.append(progress)):
        with part_of(5, 0) as tokens:
            report_progress(1, 2, 10)
            report_progress(2, 2, 30)
        with part_of(5, 2, tokens[0]) as tokens:
            report_progress(3, 3, 7)
        report_progress(1, 1)
    assert told == [(1, 5, 10), (2, 5, 30), (5, 5, 37), (1, 1, 0)]
    assert tokens == [37]
    with part_of(2, 1) as tokens:  # nobody listens
        report_progress(1, 1, 4)
    assert tokens == [4]
