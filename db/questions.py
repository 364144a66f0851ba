"""Questions in the SQL of SQLite about the view `results`, ready to be asked."""

from __future__ import annotations

from typing import NamedTuple


class Question(NamedTuple):
    """What it asks, and the query; of an image it gives the `id`, of several one as `image_id`."""

    title: str
    sql: str


QUESTIONS = {
    "least_certain": Question(
        "Images that the model was least sure of, among those that nobody has looked at",
        """
SELECT destination_path, label, probability, id
FROM results
WHERE state = 'filed' AND corrected_label IS NULL
ORDER BY probability
LIMIT 50
""",
    ),
    "corrected": Question(
        "Images that people have said are something else, the last first",
        """
SELECT destination_path, label, probability, corrected_label, corrected_at, model, id
FROM results
WHERE corrected_label <> label
ORDER BY corrected_at DESC
LIMIT 50
""",
    ),
    "by_day": Question(
        "How many images of each label came a day, and how sure the model was",
        """
SELECT date(claimed_at) AS day, label, count(*) AS images, round(avg(probability), 3) AS mean
FROM results
WHERE state = 'filed'
GROUP BY day, label
ORDER BY day, label
""",
    ),
    "errors_by_day": Question(
        "How many files failed a day, and why",
        """
SELECT date(claimed_at) AS day, error_code, count(*) AS files, min(error_detail) AS one_reason
FROM results
WHERE state = 'failed'
GROUP BY day, error_code
ORDER BY day DESC, files DESC
""",
    ),
    "repeated": Question(
        "What was dropped more than once",
        """
SELECT sha256, count(*) AS copies, min(destination_path) AS one_of_them, min(id) AS image_id
FROM results
WHERE sha256 IS NOT NULL
GROUP BY sha256
HAVING count(*) > 1
ORDER BY copies DESC
""",
    ),
    "agreement": Question(
        "How often people agree, by model",
        """
SELECT model, count(*) AS checked, avg(label = corrected_label) AS agreement
FROM results
WHERE corrected_label IS NOT NULL
GROUP BY model
""",
    ),
}
"""By a name that an address can have."""
