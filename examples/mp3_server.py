"""An MP3 server: a page that plays a melody; the player requests the ranges of the file that it needs.

Node: fs.createReadStream(path, { start, end }).pipe(res), and the Range header parsed by hand.
"""

from importlib.resources import files

from trioflow import http

media = http.files(str(files("trioflow.demo") / "media"))


async def handler(request: http.Request, response: http.Response) -> None:
    if request.path == "/":
        response.headers["content-type"] = "text/html"
        await response.send(b'<audio controls src="melody.mp3"></audio>\n')
    else:
        await media(request, response)


http.run(handler, port=8000)

# Prints:
# $ curl -s http://127.0.0.1:8000/
# <audio controls src="melody.mp3"></audio>
# $ curl -s -r 1000-1999 -o part -w '%{http_code} %{content_type} %{size_download}' http://127.0.0.1:8000/melody.mp3
# 206 audio/mpeg 1000
