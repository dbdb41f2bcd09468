"""An HTTP/1.1 server whose requests are Readables and whose responses are Writables."""

from trioflow.http._access import Access
from trioflow.http._decoded import decoded
from trioflow.http._events import Event, events, last_event_id
from trioflow.http._health import health
from trioflow.http._inspector import inspector
from trioflow.http._metrics import Metrics, metrics
from trioflow.http._proxies import Proxies
from trioflow.http._request import Request, Stopping
from trioflow.http._response import Response
from trioflow.http._running import run
from trioflow.http._server import serve
from trioflow.http._service import Handler
from trioflow.http._traced import traced
from trioflow.http.file_server.handler import files
from trioflow.http.forms.form import Part, form
from trioflow.http.wire.counters import Counters
from trioflow.http.wire.headers import Headers
from trioflow.http.wire.limits import Limits, RequestError

__all__ = [
    "Access",
    "Counters",
    "Event",
    "Handler",
    "Headers",
    "Limits",
    "Metrics",
    "Part",
    "Proxies",
    "Request",
    "RequestError",
    "Response",
    "Stopping",
    "decoded",
    "events",
    "files",
    "form",
    "health",
    "inspector",
    "last_event_id",
    "metrics",
    "run",
    "serve",
    "traced",
]


def __dir__() -> list[str]:
    return sorted(__all__)
