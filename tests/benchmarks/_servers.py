"""The HTTP servers to measure: each serves the files of a directory, from one process.

All answer `GET /file.bin`; and, if they can, `POST /upload`, which writes `upload.bin`; `GET /gzip`, the text
packed on the fly at level 6; `GET /chain`, the file through three transforms that change nothing; `GET /names/`, a page
that lists a directory; and `GET /feed`, server-sent events, the same to all clients, four a second.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.benchmarks import _place
from tests.benchmarks._harness import Need
from tests.benchmarks._programs import PEERS, Server, serving, with_trioflow
from tests.ports import free_port


@dataclass(frozen=True, slots=True)
class Kind:
    """One server: its name, what it needs, and how to start it on a directory."""

    name: str
    start: Callable[[Path], AbstractContextManager[Server]]
    needs: tuple[Need, ...] = ()


def _ours(root: Path) -> AbstractContextManager[Server]:
    return serving([*with_trioflow(), PEERS / "http_trioflow.py", root])


def _command(log: str) -> Callable[[Path], AbstractContextManager[Server]]:
    """Return a function that starts `trioflow serve` with its log in a file."""

    def start(root: Path) -> AbstractContextManager[Server]:
        port = free_port()
        command = [*with_trioflow(), "-m", "trioflow", "serve", root, str(port), "--log", log]
        return serving(["sh", "-c", 'exec "$@" > "$0"', root / "log", *command], port)

    return start


def _node(root: Path) -> AbstractContextManager[Server]:
    return serving(["node", PEERS / "http.js", root])


def _python(program: str, *variant: str) -> Callable[[Path], AbstractContextManager[Server]]:
    return lambda root: serving([_place.peers_python(), PEERS / program, root, *variant])


NGINX_CONF = """
daemon off;
master_process off;
worker_processes 1;
error_log stderr error;
pid {own}/pid;
events {{ worker_connections 4096; }}
http {{
    access_log off;
    sendfile on;
    tcp_nopush on;
    keepalive_requests 100000000;
    client_body_temp_path {own}/body;
    proxy_temp_path {own}/proxy;
    fastcgi_temp_path {own}/fastcgi;
    uwsgi_temp_path {own}/uwsgi;
    scgi_temp_path {own}/scgi;
    server {{ listen 127.0.0.1:{port} backlog=4096; root {root}; }}
}}
"""


@contextmanager
def _nginx(root: Path) -> Iterator[Server]:
    port = free_port()
    with _place.scratch() as own:
        conf = own / "nginx.conf"
        conf.write_text(NGINX_CONF.format(own=own, port=port, root=root), encoding="utf-8")
        with serving([_place.find("nginx") or "nginx", "-e", "stderr", "-p", own, "-c", conf], port) as server:
            yield server


_uvicorn = (_place.package("uvicorn"), _place.package("starlette"))
_hypercorn = (_place.package("hypercorn"), _place.package("starlette"))

OURS = Kind("trioflow", _ours, (_place.trioflow("http"),))
LOGGED = Kind("trioflow", _command("text"), (_place.trioflow("http"),))
UNLOGGED = Kind("trioflow without its log", _command("off"), (_place.trioflow("http"),))
BARE = Kind("bare Trio loop, a constant", lambda root: serving([*with_trioflow(), PEERS / "http_bare.py", root]))
NGINX = Kind("nginx: sendfile", _nginx, (_place.NGINX,))
NODE = Kind("Node", _node, (_place.NODE,))
AIOHTTP = Kind("aiohttp", _python("http_aiohttp.py"), (_place.package("aiohttp"),))
UVICORN = Kind("uvicorn + starlette", _python("http_starlette.py", "uvicorn", "plain"), _uvicorn)
UVICORN_GZIP = Kind("uvicorn + starlette", _python("http_starlette.py", "uvicorn", "gzip"), _uvicorn)
HYPERCORN = Kind("hypercorn on Trio + starlette", _python("http_starlette.py", "hypercorn", "plain"), _hypercorn)
