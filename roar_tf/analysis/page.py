"""From what is known to one page of HTML that asks nothing of the network.

Its one script is named by its hash in the page's content security policy, so
that no other can run. Without scripts the page shows everything.
"""

from __future__ import annotations

import base64
import hashlib
import importlib.resources

import jinja2

from roar_tf.analysis import charts, tables

_FOLDER = 'roar_tf.analysis'


def render(**content) -> str:
  """Returns the page; `content` are the variables of report.html.j2."""
  environment = jinja2.Environment(
    autoescape=True,
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    loader=jinja2.FunctionLoader(_read),
  )
  environment.filters['base64'] = lambda data: base64.b64encode(data).decode()
  # A percent sign stays on the line of its number.
  environment.filters['joined'] = lambda text: text.replace(' %', '\u00a0%')
  environment.filters['points'] = tables.points
  environment.filters['percent'] = tables.percent
  environment.filters['decimal'] = tables.decimal
  environment.filters['amount'] = '{:,.2f}'.format
  environment.globals['strip'] = charts.strip
  script = _read('report.js.j2').strip()
  digest = hashlib.sha256(script.encode()).digest()
  return environment.get_template('report.html.j2').render(
    script=script,
    script_hash=base64.b64encode(digest).decode(),
    style=_read('report.css.j2').strip(),
    **content,
  )


def _read(name: str) -> str:
  files = importlib.resources.files(_FOLDER)
  return files.joinpath(name).read_text(encoding='utf-8')
