"""Absences of sequences written as letters, to be counted by eye."""

import numpy as np

from siamtrack.evaluation.absence import Absence, AbsenceReport, count_absences


def report_of(truth, said):
    """Truth: `o` box on it, `x` box elsewhere, `.` absent. Said: tracked, uncertain, lost."""
    overlaps = [{"o": 0.8, "x": 0.2, ".": np.nan}[letter] for letter in truth]
    return count_absences(overlaps, [s == "l" for s in said], [s == "t" for s in said])


def test_delays_of_a_reported_loss_and_of_a_found_target():
    report = report_of(
        "o" * 20 + "." * 20 + "x" * 4 + "o" * 40,
        "t" * 20 + "u" * 6 + "l" * 14 + "l" * 5 + "t" * 39,
    )
    # The seventh frame without the target; the sixth frame with it.
    assert report == AbsenceReport((Absence(True, 7, 6, True),), 60, 0)


def test_without_a_report_or_recovery_the_delay_is_none():
    report = report_of("o" * 20 + "." * 20 + "x" * 30, "t" * 70)
    assert report.absences == (Absence(True, None, None, True),)


def test_a_loss_reported_after_the_return_does_not_count():
    report = report_of("o" * 20 + "." * 20 + "x" * 30, "t" * 41 + "l" * 29)
    assert report.absences[0].lost_after is None


def test_a_return_just_before_the_end_or_the_next_absence_is_not_judged_unless_it_was_found():
    end = report_of("o" * 20 + "." * 20 + "x" * 29, "t" * 69)
    assert [a.judged for a in end.absences] == [False]
    found = report_of("o" * 20 + "." * 20 + "x" * 2 + "o", "t" * 43)
    assert found.absences == (Absence(True, None, 3, True),)
    twice = report_of("o" * 20 + ("." * 20 + "x" * 10) * 2 + "x" * 25, "t" * 105)
    assert [a.judged for a in twice.absences] == [False, True]


def test_short_gaps_are_no_absences_and_do_not_end_a_return():
    report = report_of("o" * 20 + "." * 14 + "o" * 20, "t" * 54)
    assert report.absences == ()
    report = report_of("o" * 9 + "." * 15 + "x" * 9 + "..." + "o" * 40, "t" * 76)
    assert report.absences == (Absence(True, None, 13, True),)


def test_a_box_that_was_elsewhere_before_is_not_followed():
    assert not report_of("o" * 5 + "x" * 15 + "." * 15, "t" * 35).absences[0].followed
    assert report_of("o" * 6 + "x" * 14 + "." * 15, "t" * 35).absences[0].followed


def test_false_alarms_are_counted_once_where_the_box_is_right():
    report = report_of("o" * 10 + "x" * 5 + "o" * 5, "t" * 2 + "l" * 2 + "t" * 7 + "l" * 9)
    assert (report.right_frames, report.false_alarms) == (15, 1)


def test_the_summary_has_shares_and_medians():
    report = AbsenceReport(
        (
            Absence(True, 7, 6, True),
            Absence(True, 15, 30, True),
            Absence(False, 16, 31, True),
            Absence(False, None, None, False),
        ),
        500,
        1,
    )
    lost, alarms, found = (report + AbsenceReport((), 500, 0)).summary_lines()
    assert "2 of 4 (50 %) of absences, 2 of 2 (100 %) of those from a right box" in lost
    assert lost.endswith("median delay 15 frames where it happened")
    assert "1 in 1000 frames with a right box, 1.00 per 1,000" in alarms
    assert "2 of 3 (67 %) of returns, 2 of 2 (100 %)" in found
    assert AbsenceReport().summary_lines()[0].startswith("lost within 15 frames: 0 of 0 (-)")
