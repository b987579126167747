"""A fake of Google Cloud Storage for TensorFlow's own client, with faults.

TensorFlow asks https://www.googleapis.com and https://storage.googleapis.com,
whatever one does, but through the proxy that `https_proxy` names, trusting the
certificates of `CURL_CA_BUNDLE`. So the fake is a proxy on the loopback device
that answers itself. It holds one bucket, of any name, in memory, and speaks as
much of the JSON API as the client does:
https://cloud.google.com/storage/docs/json_api/v1.
"""

import collections
import dataclasses
import http.server
import itertools
import json
import pathlib
import re
import ssl
import threading
import time
import urllib.parse
from collections.abc import Iterator

CERTIFICATE = pathlib.Path(__file__).with_suffix('.pem')
CUT = 'cut'
"""A fault: the connection ends, in the middle of the body if there is one."""


def every_tenth() -> Iterator:
  """Yields no end of faults: nine requests go well, and one fails."""
  good = [None] * 9
  return itertools.cycle([*good, 500, *good, 429, *good, CUT])


@dataclasses.dataclass(frozen=True)
class Blob:
  """An object of the store."""

  data: bytes
  generation: int
  time: float


@dataclasses.dataclass
class Upload:
  """A resumable upload.

  Attributes:
    name: of the object.
    data: what has arrived.
    done: whether the object is there.
  """

  name: str
  data: bytes = b''
  done: bool = False


class FakeGcs:
  """The store; a context manager that serves while it is entered.

  Attributes:
    blobs: {name: Blob}.
    requests: how many requests there were of each kind: `list`, `stat`, `read`,
      `start` (of an upload), `upload`, `delete`, `copy`, `other`.
    faults: {kind: what becomes of its next requests, one each}: a status such
      as 500, seconds of delay, CUT, or None for nothing.
    any_faults: the same for the next requests of all kinds, where `faults` has
      none left for theirs; such as `every_tenth`.
    failed: how many requests failed, by kind and fault.
    listed_after: seconds after which a new object is in listings.
  """

  def __init__(self):
    self.blobs: dict[str, Blob] = {}
    self.requests = collections.Counter()
    self.faults = collections.defaultdict(collections.deque)
    self.any_faults: Iterator = iter(())
    self.failed = collections.Counter()
    self.listed_after = 0.0
    self.lock = threading.RLock()
    self.uploads: dict[str, Upload] = {}
    self._server = http.server.ThreadingHTTPServer(
      ('127.0.0.1', 0), type('Handler', (_Handler,), {'store': self})
    )
    self._server.daemon_threads = True

  def __enter__(self) -> 'FakeGcs':
    threading.Thread(target=self._server.serve_forever, daemon=True).start()
    return self

  def __exit__(self, *_) -> None:
    self._server.shutdown()
    self._server.server_close()

  @property
  def environment(self) -> dict[str, str]:
    """The variables that lead TensorFlow's client here."""
    proxy = f'http://127.0.0.1:{self._server.server_address[1]}'
    return {
      'https_proxy': proxy,
      'no_proxy': '',
      'CURL_CA_BUNDLE': str(CERTIFICATE),
      'GOOGLE_AUTH_TOKEN_FOR_TESTING': 'token',
      'NO_GCE_CHECK': 'true',
    }

  def put(self, name: str, data: bytes) -> None:
    """Makes or replaces an object."""
    with self.lock:
      old = self.blobs.get(name)
      generation = old.generation + 1 if old else 1
      self.blobs[name] = Blob(data, generation, time.time())

  def remove(self, root: str) -> None:
    """Removes all below a folder."""
    with self.lock:
      for name in [n for n in self.blobs if n.startswith(f'{root}/')]:
        del self.blobs[name]

  def files(self, root: str) -> dict[str, bytes]:
    """Returns {path below a folder: content}, without marks of folders."""
    with self.lock:
      return {
        name.removeprefix(f'{root}/'): blob.data
        for name, blob in self.blobs.items()
        if name.startswith(f'{root}/') and not name.endswith('/')
      }

  def listing(self, prefix: str, delimiter: str, after: str, most: int) -> dict:
    """Returns a page of a listing, as JSON has it."""
    with self.lock:
      newest = time.time() - self.listed_after
      names = sorted(
        name
        for name, blob in self.blobs.items()
        if name.startswith(prefix) and blob.time <= newest
      )
    entries = {}  # {what is listed, a folder with its slash: its last name}
    for name in names:
      below, slash, _ = name[len(prefix) :].partition(delimiter or '\0')
      entries[prefix + below + slash] = name
    rest = [entry for entry in entries if entries[entry] > after]
    page, more = rest[:most], rest[most:]
    folders = [e for e in page if delimiter and e.endswith(delimiter)]
    answer = {'prefixes': [e for e in folders if e != prefix]}
    answer['items'] = [{'name': e} for e in page if e not in folders]
    if more:
      answer['nextPageToken'] = entries[page[-1]]
    return answer


class _Handler(http.server.BaseHTTPRequestHandler):
  """One connection: a CONNECT, and then requests inside of TLS."""

  protocol_version = 'HTTP/1.1'
  store: FakeGcs

  def log_message(self, *_):
    """Says nothing."""

  def do_CONNECT(self):
    """Turns the tunnel's near end into its far end."""
    self.send_response(200)
    self.end_headers()
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(CERTIFICATE)
    self.connection = tls.wrap_socket(self.connection, server_side=True)
    self.rfile = self.connection.makefile('rb')
    self.wfile = self.connection.makefile('wb', 0)
    self.close_connection = False

  def handle(self):
    """Serves requests until the client goes."""
    try:
      super().handle()
    except OSError:  # It was killed, or cut off.
      self.close_connection = True

  def do_GET(self):
    """Answers, unless a fault comes first."""
    url = urllib.parse.urlsplit(self.path)
    pairs = urllib.parse.parse_qsl(url.query, keep_blank_values=True)
    self.query = dict(pairs)
    kind, action, names = self._route(url.path)
    with self.store.lock:
      self.store.requests[kind] += 1
      queue = self.store.faults[kind]
      fault = queue.popleft() if queue else next(self.store.any_faults, None)
      if fault is not None and not isinstance(fault, float):
        self.store.failed[kind, fault] += 1
    if isinstance(fault, float):
      time.sleep(fault)
    body = self._body(half=fault == CUT)
    if fault == CUT and kind == 'upload':
      self.store.uploads[self.query['upload_id']].data += body
    if fault == CUT:
      self.close_connection = True
      self.connection.close()
    elif isinstance(fault, int):
      self._say(fault, b'{"error": "injected"}')
    else:
      action(self, body, *map(urllib.parse.unquote, names))

  do_POST = do_PUT = do_DELETE = do_GET

  def _route(self, path: str):
    """Returns a request's kind, who answers it, and names in its path."""
    host = self.headers.get('Host', '').partition(':')[0]
    for kind, method, pattern, action in _ROUTES:
      match = re.fullmatch(pattern, f'{host}{path}')
      if match and method == self.command:
        if kind == 'start' and self.query['uploadType'] != 'resumable':
          continue
        return kind, action, match.groups()
    return 'other', _Handler._unknown, ()

  def _body(self, half: bool) -> bytes:
    if self.headers.get('Transfer-Encoding') != 'chunked':
      size = int(self.headers.get('Content-Length', 0))
      return self._exactly(size // 2 if half else size)
    chunks = []
    while size := int(self.rfile.readline() or b'-1', 16):
      chunks.append(self._exactly(size))
      self.rfile.readline()
    self.rfile.readline()
    return b''.join(chunks)

  def _exactly(self, size: int) -> bytes:
    """Reads a part of a body; OSError if the client is gone before its end."""
    data = self.rfile.read(max(0, size))
    if len(data) != size:
      raise ConnectionResetError
    return data

  def _say(self, status: int, body: bytes = b'', **headers) -> None:
    self.send_response(status)
    for name, value in headers.items():
      self.send_header(name.replace('_', '-'), value)
    self.send_header('Content-Length', str(len(body)))
    self.end_headers()
    self.wfile.write(body)

  def _json(self, value) -> None:
    self._say(200, json.dumps(value).encode(), Content_Type='application/json')

  # --- what the client asks --------------------------------------------------

  def _unknown(self, body) -> None:
    self._say(501, f'{self.command} {self.path}'.encode())

  def _list(self, body) -> None:
    self._json(
      self.store.listing(
        self.query.get('prefix', ''),
        self.query.get('delimiter', ''),
        self.query.get('pageToken', ''),
        int(self.query.get('maxResults', 1000)),
      )
    )

  def _stat(self, body, name) -> None:
    blob = self.store.blobs.get(name)
    if blob is None:
      self._say(404)
      return
    updated = time.strftime('%Y-%m-%dT%H:%M:%S.000Z', time.gmtime(blob.time))
    facts = {'size': len(blob.data), 'generation': blob.generation}
    self._json(
      {name: str(value) for name, value in facts.items()} | {'updated': updated}
    )

  def _delete(self, body, name) -> None:
    with self.store.lock:
      gone = self.store.blobs.pop(name, None)
    self._say(204 if gone else 404)

  def _copy(self, body, name, other) -> None:
    blob = self.store.blobs.get(name)
    if blob is None:
      self._say(404)
      return
    self.store.put(other, blob.data)
    self._json({'done': True})

  def _read(self, body, name) -> None:
    blob = self.store.blobs.get(name)
    if blob is None:
      self._say(404)
      return
    first, _, last = self.headers['Range'].partition('=')[2].partition('-')
    data = blob.data[int(first) : int(last) + 1]
    if data:
      end = int(first) + len(data) - 1
      where = f'bytes {first}-{end}/{len(blob.data)}'
      self._say(206, data, Content_Range=where)
    else:
      self._say(416)

  def _start(self, body) -> None:
    with self.store.lock:
      number = str(len(self.store.uploads))
      self.store.uploads[number] = Upload(self.query['name'])
    place = f'https://www.googleapis.com{self.path}&upload_id={number}'
    self._say(200, Location=place)

  def _upload(self, body) -> None:
    upload = self.store.uploads[self.query['upload_id']]
    # "bytes 5-9/10", or "bytes */10", which asks how far it has come; nothing
    # of an empty file.
    place = self.headers.get('Content-Range', 'bytes 0-/0')
    where, _, size = place.removeprefix('bytes ').partition('/')
    if where != '*':
      upload.data = upload.data[: int(where.partition('-')[0])] + body
      if len(upload.data) == int(size) and not upload.done:
        upload.done = True
        self.store.put(upload.name, upload.data)
    if upload.done:
      self._json({'name': upload.name})
    elif upload.data:
      self._say(308, Range=f'bytes=0-{len(upload.data) - 1}')
    else:
      self._say(308)

  def _put_at_once(self, body) -> None:
    self.store.put(self.query['name'], body)
    self._json({'name': self.query['name']})

  def _layout(self, body) -> None:
    self._json({'hierarchicalNamespace': {'enabled': False}})

  def _bucket(self, body) -> None:
    self._json({'location': 'US'})


_API = r'www\.googleapis\.com/storage/v1/b/[^/]+'
_UPLOADS = r'www\.googleapis\.com/upload/storage/v1/b/[^/]+/o'
_ROUTES = [
  ('list', 'GET', rf'{_API}/o/?', _Handler._list),
  ('stat', 'GET', rf'{_API}/o/([^/]+)', _Handler._stat),
  ('delete', 'DELETE', rf'{_API}/o/([^/]+)', _Handler._delete),
  (
    'copy',
    'POST',
    rf'{_API}/o/([^/]+)/rewriteTo/b/[^/]+/o/([^/]+)',
    _Handler._copy,
  ),
  ('read', 'GET', r'storage\.googleapis\.com/[^/]+/(.+)', _Handler._read),
  ('start', 'POST', _UPLOADS, _Handler._start),
  ('upload', 'POST', _UPLOADS, _Handler._put_at_once),
  ('upload', 'PUT', _UPLOADS, _Handler._upload),
  ('layout', 'GET', rf'{_API}/storageLayout', _Handler._layout),
  ('bucket', 'GET', _API, _Handler._bucket),
]
