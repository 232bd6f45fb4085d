"""Certificates for tests, made anew each time."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any

import trustme

from xoscar_sc.ipc import TLS


class Authority:
    """Signs certificates, and writes them to files."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        directory.mkdir(exist_ok=True)
        self._ca = trustme.CA()
        self.file = directory / "ca.pem"
        self._ca.cert_pem.write_to_path(str(self.file))
        self._made = 0

    def files(self, *names: str, days: int | None = None) -> tuple[Path, Path]:
        """A certificate for these names, and its key; ``days``: from now until it expires."""
        self._made += 1
        options: dict[str, Any] = {}
        if days is not None:
            now = datetime.datetime.now(datetime.UTC)
            options = {
                "not_before": now - datetime.timedelta(days=30),
                "not_after": now + datetime.timedelta(days=days),
            }
        made = self._ca.issue_cert(*(names or ("localhost", "127.0.0.1", "::1")), **options)
        certificate = self.directory / f"{self._made}.pem"
        key = self.directory / f"{self._made}.key"
        made.private_key_pem.write_to_path(str(key))
        for number, blob in enumerate(made.cert_chain_pems):
            blob.write_to_path(str(certificate), append=number > 0)
        return certificate, key

    def tls(self, *names: str, days: int | None = None, ca: Path | None = None, **options: Any) -> TLS:
        """What a program is given: a certificate of this authority's, and whom to believe."""
        return TLS(*self.files(*names, days=days), ca or self.file, **options)
