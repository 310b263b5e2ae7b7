"""The errors of this package: each says what was wrong and what to do next."""


class CourseError(Exception):
    """An error that its reader can mend; the message names the remedy.

    In a notebook the message stands alone, without a traceback: IPython asks
    an exception for `_render_traceback_` before it draws one itself.
    """

    def _render_traceback_(self) -> list[str]:
        return [f"{type(self).__name__}: {self}"]


class ServerError(CourseError):
    """The embedded PostgreSQL cannot be started, or cannot go on."""


class ConnectionFailed(CourseError):
    """A PostgreSQL server cannot be reached, or cannot be used for the course."""


class ModelError(CourseError):
    """A model cannot be used as asked: wrong input, wrong key, unknown name."""


class DocumentError(CourseError):
    """Rows that cannot be stored as given, or a table that is not what was expected."""


class IndexProblem(CourseError):
    """An index that cannot be built, or a search that cannot be tuned or explained, as asked."""
