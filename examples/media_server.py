"""A media server: a page that plays the files of a directory; the player requests the ranges it needs.

Node: fs.readdir(), fs.createReadStream(path, { start, end }).pipe(res), and the Range header parsed by hand.
"""

from html import escape
from importlib.resources import files
from urllib.parse import quote

import trio

from trioflow import http

MEDIA = trio.Path(str(files("trioflow.demo") / "media"))
PLAYERS = {".mp3": "audio", ".mp4": "video"}
serve_file = http.files(str(MEDIA))


async def handler(request: http.Request, response: http.Response) -> None:
    if request.path != "/":
        await serve_file(request, response)
        return
    names = sorted(path.name for path in await MEDIA.iterdir() if path.suffix in PLAYERS)
    page = "<!doctype html>\n<title>Media</title>\n"
    for name in names:
        player = PLAYERS[trio.Path(name).suffix]
        page += f'<p>{escape(name)}<br><{player} controls src="{quote(name)}"></{player}>\n'
    response.headers["content-type"] = "text/html; charset=utf-8"
    await response.send(page.encode())


http.run(handler, port=8000)

# Prints:
# $ curl -s http://127.0.0.1:8000/
# <!doctype html>
# <title>Media</title>
# <p>clip.mp4<br><video controls src="clip.mp4"></video>
# <p>melody.mp3<br><audio controls src="melody.mp3"></audio>
# $ curl -s -r 1000-1999 -o part -w '%{http_code} %{content_type} %{size_download}' http://127.0.0.1:8000/clip.mp4
# 206 video/mp4 1000
