"""The tables of the lab.

A row of the desk's books holds what queries need as columns and the rest as JSON, and the version of the books at which
it was written: who has read them up to a version reads only what is newer.
"""

from typing import Final

from sqlalchemy import Column, Float, Index, Integer, LargeBinary, MetaData, String, Table, Text

METADATA: Final = MetaData()

desks = Table(
    "lab_desk",
    METADATA,
    Column("id", Integer, primary_key=True),
    Column("version", Integer, nullable=False),
    Column("turns", Text, nullable=False),
    Column("leader", String(64), nullable=False),
    Column("leads_until", Float, nullable=False),
)
places = Table(
    "lab_places",
    METADATA,
    Column("name", String(63), primary_key=True),
    Column("version", Integer, nullable=False, index=True),
    Column("body", Text, nullable=False),
)
boards = Table(
    "lab_boards",
    METADATA,
    Column("name", String(63), primary_key=True),
    Column("version", Integer, nullable=False, index=True),
    Column("body", Text, nullable=False),
)
jobs = Table(
    "lab_jobs",
    METADATA,
    Column("name", String(64), primary_key=True),
    Column("version", Integer, nullable=False, index=True),
    Column("project", String(63), nullable=False),
    Column("state", String(16), nullable=False, index=True),
    Column("submitted_s", Float, nullable=False, index=True),
    Column("body", Text, nullable=False),
)
documents = Table(
    "lab_job_results",
    METADATA,
    Column("job", String(64), primary_key=True),
    Column("demand", Integer, primary_key=True),
    Column("project", String(63), nullable=False),
    Column("board", String(63), nullable=False),
    Column("kind", String(63), nullable=False),
    Column("finished_s", Float, nullable=False),
    Column("document", LargeBinary, nullable=False),
    Index("lab_job_results_newest", "finished_s"),
)
