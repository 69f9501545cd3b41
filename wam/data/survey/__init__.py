# SPDX-License-Identifier: Apache-2.0
"""What a recording or a data set holds: read quickly, from indices, summaries and samples. No robot is needed.

`survey(path)` gives a `BagSurvey` or a `DatasetSurvey`; `survey_as_json` makes plain values of either.
"""

from wam.data.survey.survey import survey
from wam.data.survey.values import (
    BagSurvey,
    CameraSurvey,
    ColumnSurvey,
    DatasetSurvey,
    EpisodeSurvey,
    FeatureSurvey,
    FileSize,
    TopicSurvey,
    survey_as_json,
)

__all__ = [
    "BagSurvey",
    "CameraSurvey",
    "ColumnSurvey",
    "DatasetSurvey",
    "EpisodeSurvey",
    "FeatureSurvey",
    "FileSize",
    "TopicSurvey",
    "survey",
    "survey_as_json",
]
