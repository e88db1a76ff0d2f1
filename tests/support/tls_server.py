"""A TLS server on the loopback interface whose certificate nobody trusts."""

from __future__ import annotations

import socket
import ssl
import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CERTIFICATE = """\
-----BEGIN CERTIFICATE-----
MIIBlDCCATugAwIBAgIUeTGeqNCiVHzuFr/fyP4mA0fQzlAwCgYIKoZIzj0EAwIw
FDESMBAGA1UEAwwJbG9jYWxob3N0MCAXDTI2MTEyODE3NDYyMFoYDzIxMjYxMTA0
MTc0NjIwWjAUMRIwEAYDVQQDDAlsb2NhbGhvc3QwWTATBgcqhkjOPQIBBggqhkjO
PQMBBwNCAATWHYZfx7JbKV5Nuwn0mN+bcDZ0Tfjo2aye9HXRUzcI1x65p6zLvZXQ
42wntKYBBEnJdy4h4Or3z7pfXvAozgfco2kwZzAdBgNVHQ4EFgQUdAQ5FjYEqXEn
0O3GS2ZoVZTXgN8wHwYDVR0jBBgwFoAUdAQ5FjYEqXEn0O3GS2ZoVZTXgN8wDwYD
VR0TAQH/BAUwAwEB/zAUBgNVHREEDTALgglsb2NhbGhvc3QwCgYIKoZIzj0EAwID
RwAwRAIgY1T0Udh8DprEz4ktAfhiKPxuZIshQbCGOwYDpUwyLwkCID7NBXkDTBsR
rdlzmpzcB8lmJzI2LJ0QN/whlM3/mCgp
-----END CERTIFICATE-----
"""
"""Self-signed, for `localhost` alone."""

_KEY = """\
-----BEGIN EC PRIVATE KEY-----
MHcCAQEEIELIdZlh7BNagTuVJP7xEJHHptCpt4myG1WhFpLwQ4mcoAoGCCqGSM49
AwEHoUQDQgAE1h2GX8eyWyleTbsJ9Jjfm3A2dE346NmsnvR10VM3CNceuaesy72V
0ONsJ7SmAQRJyXcuIeDq98+6X17wKM4H3A==
-----END EC PRIVATE KEY-----
"""


@contextmanager
def tls_server(folder: Path) -> Iterator[int]:
    """Accept TLS connections; yields the port. `folder` receives `ca.pem`, the certificate."""
    (folder / "ca.pem").write_text(CERTIFICATE)
    (folder / "both.pem").write_text(_KEY + CERTIFICATE)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "both.pem")
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            with suppress(OSError):
                while True:
                    link, _ = listener.accept()
                    with (
                        link,
                        suppress(OSError),
                        context.wrap_socket(link, server_side=True) as tls,
                    ):
                        tls.recv(65536)

        threading.Thread(target=serve, daemon=True).start()
        yield listener.getsockname()[1]
        with suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
