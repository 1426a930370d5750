"""Files that the browser saves: made here, sent through the page's own connection, kept nowhere."""

import base64

from bokeh.models import ColumnDataSource

from galprote.workflows.viewer.browser_code import callback


class Downloads:
    """What the browser is to save next: `source` must be a part of the page."""

    def __init__(self) -> None:
        self.source = ColumnDataSource({"name": [""], "kind": [""], "content": [""]}, name="download")
        self.source.js_on_change("data", callback("download", source=self.source))

    def send(self, name: str, kind: str, content: bytes) -> None:
        """Have the browser save a file of a MIME type."""
        encoded = base64.b64encode(content).decode("ascii")
        self.source.data = {"name": [name], "kind": [kind], "content": [encoded]}
        self.source.data = {"name": [name], "kind": [kind], "content": [""]}  # the server need not keep it
