"""What the lab keeps: releases that are candidates, and the desk's books."""

from services.device_lab_scheduler.store._tables import METADATA
from services.device_lab_scheduler.store.books import Leader, lead, lock_books, read_books, write_books
from services.device_lab_scheduler.store.candidates import find_result, keep_result, load_candidate, save_candidate
from services.device_lab_scheduler.store.ended import ended_job, ended_jobs, keep_document, result_documents

__all__ = [
    "METADATA",
    "Leader",
    "ended_job",
    "ended_jobs",
    "find_result",
    "keep_document",
    "keep_result",
    "lead",
    "load_candidate",
    "lock_books",
    "read_books",
    "result_documents",
    "save_candidate",
    "write_books",
]
