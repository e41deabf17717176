"""The view ``run_metrics``: summaries with readable names and numbers, for other tools."""

from __future__ import annotations

from alembic import op

revision = "0002"
down_revision = "0001"

# 9214364837600034817 and -9223372036854775808 are +Inf and -Inf as integers of ExactDouble.
_VIEW = """
CREATE VIEW run_metrics AS
SELECT run.run AS run, run.name AS run_name, experiment.name AS experiment, run.status AS status,
       series."key" AS "key", series.context AS context,
       series.count AS count, series.nan_count AS nan_count,
       series.last_real AS last,
       CASE WHEN series.last > 9214364837600034817 THEN 'nan'
            WHEN series.last = 9214364837600034817 THEN 'inf'
            WHEN series.last = -9223372036854775808 THEN '-inf'
            ELSE 'finite' END AS last_kind,
       series.min_real AS min, series.max_real AS max,
       series.first_step AS first_step, series.last_step AS last_step, series.last_time_ns AS last_time_ns
FROM series JOIN run ON run.run = series.run JOIN experiment ON experiment.id = run.experiment_id
"""


def upgrade() -> None:
    op.execute(_VIEW)
