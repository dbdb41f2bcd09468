"""An HTTP/1.1 server whose requests are Readables and whose responses are Writables."""

from trioflow.http._access import Access
from trioflow.http._connection import Handler
from trioflow.http._counters import Counters
from trioflow.http._decoded import decoded
from trioflow.http._events import Event, events, last_event_id
from trioflow.http._files import files
from trioflow.http._forms import Part, form
from trioflow.http._forwarded import Proxies
from trioflow.http._headers import Headers
from trioflow.http._health import health
from trioflow.http._limits import Limits, RequestError
from trioflow.http._messages import Request, Response
from trioflow.http._server import serve

__all__ = [
    "Access",
    "Counters",
    "Event",
    "Handler",
    "Headers",
    "Limits",
    "Part",
    "Proxies",
    "Request",
    "RequestError",
    "Response",
    "decoded",
    "events",
    "files",
    "form",
    "health",
    "last_event_id",
    "serve",
]
