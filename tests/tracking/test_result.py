import json

from siamtrack.tracking.result import Result
from siamtrack.video.tables import CSV_HEADER

RESULT = Result((10.0, 20.0, 30.5, 40.0), 0.75, "uncertain")


def test_xyxy_are_the_corners():
    assert RESULT.xyxy == (10.0, 20.0, 40.5, 60.0)


def test_to_dict_has_the_columns_of_the_table_and_plain_values():
    made = RESULT.to_dict()
    assert list(made) == CSV_HEADER.split(",")[3:]
    assert json.loads(json.dumps(made)) == made
    assert list(made.values()) == [10.0, 20.0, 30.5, 40.0, 0.75, "uncertain"]
