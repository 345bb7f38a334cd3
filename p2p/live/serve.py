"""Serve the page from this machine and open it: `make live`. Ctrl-C ends it.

The headers isolate the page, so that its WebAssembly may use threads; on a host without them the page's service worker
adds them.
"""

if __name__ == "__main__":
    from ldm.helpers.program import run

    raise SystemExit(run("p2p.live.serve"))

import argparse
import webbrowser
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

SITE = Path(__file__).parents[2] / "site" / "dist"
PORT = 8623  # the lessons link to it
HEADERS = {
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Embedder-Policy": "require-corp",
    "Cache-Control": "no-cache",  # a page that was built anew is loaded anew
}


class Handler(SimpleHTTPRequestHandler):
    """Files, with the headers of the page, and without a log."""

    extensions_map = SimpleHTTPRequestHandler.extensions_map | {
        ".js": "text/javascript",
        ".mjs": "text/javascript",
        ".wasm": "application/wasm",
    }

    def end_headers(self):
        for name, value in HEADERS.items():
            self.send_header(name, value)
        super().end_headers()

    def log_message(self, *_):
        pass


def server(port: int = 0, folder: Path = SITE) -> ThreadingHTTPServer:
    """A server of the page on this machine alone; port 0 is any free one.

    Raises:
        FileNotFoundError: the page is not built.
        OSError: the port is taken.
    """
    if not (folder / "index.html").is_file():
        raise FileNotFoundError(2, "the page is not built, run make site", str(folder))
    return ThreadingHTTPServer(("127.0.0.1", port), partial(Handler, directory=folder))


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="p2p.live.serve", description="Serve the page from this machine, and open it."
    )
    parser.add_argument("--port", type=int, default=PORT, help="default %(default)s")
    parser.add_argument("--no-open", action="store_true", help="do not open a browser")
    given = parser.parse_args()
    with server(given.port) as serving:
        address = f"http://localhost:{serving.server_port}/"
        print(f"the page is at {address}; Ctrl-C ends it", flush=True)
        if not given.no_open:
            webbrowser.open(address)
        serving.serve_forever()
