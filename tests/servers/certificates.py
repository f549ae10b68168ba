"""Certificates for TLS on 127.0.0.1, made by the `openssl` command in a temporary folder."""

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from tests.servers.packages import UnavailableError

OPENSSL_TIMEOUT_S = 30
_CONFIG = """\
[ca]
default_ca = own
[own]
dir = {folder}
database = {folder}/index.txt
serial = {folder}/serial
new_certs_dir = {folder}
default_md = sha256
policy = anything
copy_extensions = copy
unique_subject = no
[anything]
commonName = supplied
"""
LONG_AGO, FAR_OFF = "20200101000000Z", "20491231235959Z"


@dataclass(frozen=True, slots=True)
class Certificate:
    """A certificate and its private key, in two files and in one, as PEM; `chain` has key and certificate."""

    certificate: Path
    key: Path
    chain: Path


class Authority:
    """A certificate authority of its own, which signs certificates for names."""

    def __init__(self, folder: Path, name: str = "usageaudit tests") -> None:
        self._folder = folder
        folder.mkdir(parents=True)
        self.certificate = folder / "ca.pem"
        self._key = folder / "ca.key"
        (folder / "openssl.cnf").write_text(_CONFIG.format(folder=folder), encoding="utf-8")
        (folder / "index.txt").touch()
        (folder / "serial").write_text("01\n", encoding="utf-8")
        _openssl(
            *("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "3650"),
            *("-keyout", str(self._key), "-out", str(self.certificate), "-subj", f"/CN={name}"),
        )

    def sign(
        self, name: str, alternatives: str = "", expires: str = FAR_OFF, password: str | None = None
    ) -> Certificate:
        """Return a certificate for a common name; `alternatives` like `IP:127.0.0.1`, `password` encrypts the key."""
        stem = self._folder / f"{name}-{expires}"
        made = Certificate(stem.with_suffix(".crt"), stem.with_suffix(".key"), stem.with_suffix(".pem"))
        request = stem.with_suffix(".csr")
        extension = ("-addext", f"subjectAltName={alternatives}") if alternatives else ()
        hidden = ("-nodes",) if password is None else ("-passout", f"pass:{password}")
        _openssl(
            *("req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", *hidden, *extension),
            *("-keyout", str(made.key), "-out", str(request), "-subj", f"/CN={name}"),
        )
        _openssl(
            *("ca", "-batch", "-notext", "-config", str(self._folder / "openssl.cnf"), "-in", str(request)),
            *("-out", str(made.certificate), "-cert", str(self.certificate), "-keyfile", str(self._key)),
            *("-startdate", LONG_AGO, "-enddate", expires),
        )
        made.chain.write_bytes(made.key.read_bytes() + made.certificate.read_bytes() + self.certificate.read_bytes())
        return made


def lacking() -> str | None:
    """Say what this machine lacks for certificates, or `None`."""
    return None if shutil.which("openssl") else "certificates are made with openssl, which is not on the PATH"


def _openssl(*arguments: str) -> None:
    if (reason := lacking()) is not None:
        raise UnavailableError(reason)
    done = subprocess.run(
        ["openssl", *arguments], capture_output=True, text=True, timeout=OPENSSL_TIMEOUT_S, check=False
    )
    if done.returncode != 0:
        raise UnavailableError(f"openssl {arguments[0]} failed: {done.stderr[-500:]}")
