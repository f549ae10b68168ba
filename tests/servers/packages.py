"""What the servers and other tests are made of: pinned packages, downloaded once into a cache outside the repository.

The cache is `$USAGEAUDIT_TEST_CACHE`, else `$XDG_CACHE_HOME/usageaudit-tests`, else `~/.cache/usageaudit-tests`. The
packages come through `mvn`, `pip` and `npm` as they are configured on the machine.
"""

import fcntl
import os
import platform
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

DOWNLOAD_TIMEOUT_S = 600

POM = """\
<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>usageaudit.tests</groupId>
  <artifactId>kafka</artifactId>
  <version>1</version>
  <dependencies>
    <dependency>
      <groupId>org.apache.kafka</groupId>
      <artifactId>kafka_2.13</artifactId>
      <version>4.3.1</version>
    </dependency>
    <dependency>
      <groupId>org.slf4j</groupId>
      <artifactId>slf4j-simple</artifactId>
      <version>1.7.36</version>
    </dependency>
  </dependencies>
</project>
"""


class UnavailableError(Exception):
    """The machine can't have the server; the message says what it lacks."""


@dataclass(frozen=True, slots=True)
class Package:
    """One thing to download: `fetch` fills an empty folder with it, by means of `tool`, a program on the PATH."""

    name: str
    version: str
    tool: str
    fetch: Callable[[Path], None]
    linux_x86_64_only: bool = False

    @property
    def path(self) -> Path:
        """The folder that holds it once it is downloaded; another version is another folder."""
        return cache_dir() / f"{self.name}-{self.version}"

    def lacking(self) -> str | None:
        """Say what keeps this machine from having the package, or `None`; downloads nothing."""
        if self.linux_x86_64_only and (sys.platform, platform.machine()) != ("linux", "x86_64"):
            return f"{self.name} {self.version} is packaged for Linux on x86-64 only"
        if not self.path.exists() and shutil.which(self.tool) is None:
            return f"{self.name} {self.version} is downloaded with {self.tool}, which is not on the PATH"
        return None

    def install(self) -> Path:
        """Return the folder with the package in it, downloading it if this is the first time.

        Raises:
            UnavailableError: it can't be had on this machine.
        """
        if (reason := self.lacking()) is not None:
            raise UnavailableError(reason)
        if self.path.exists():
            return self.path
        cache_dir().mkdir(parents=True, exist_ok=True)
        with (cache_dir() / f"{self.path.name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # a run beside this one may be downloading it
            if not self.path.exists():
                self._download()
        return self.path

    def _download(self) -> None:
        # Renamed when complete, so that an interrupted download is never taken for the package.
        with tempfile.TemporaryDirectory(dir=cache_dir(), prefix=f"{self.path.name}.") as scratch:
            partial = Path(scratch) / "package"
            partial.mkdir()
            self.fetch(partial)
            partial.rename(self.path)


def cache_dir() -> Path:
    """Return the folder that keeps the packages from one run to the next."""
    if override := os.environ.get("USAGEAUDIT_TEST_CACHE"):
        return Path(override).absolute()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "usageaudit-tests"


def run(command: Sequence[str | Path], cwd: Path) -> None:
    """Run a package client in a folder.

    Raises:
        UnavailableError: it failed, or took too long; what it said last is in the message.
    """
    try:
        done = subprocess.run(
            command, cwd=cwd, capture_output=True, text=True, errors="replace", timeout=DOWNLOAD_TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise UnavailableError(f"`{_shown(command)}` did not end within {DOWNLOAD_TIMEOUT_S} s") from error
    if done.returncode != 0:
        last = "\n".join((done.stdout + done.stderr).strip().splitlines()[-15:])
        raise UnavailableError(f"`{_shown(command)}` ended with code {done.returncode}:\n{last}")


def _shown(command: Sequence[str | Path]) -> str:
    return " ".join(str(part) for part in command)


def _fetch_kafka(folder: Path) -> None:
    (folder / "pom.xml").write_text(POM, encoding="utf-8")
    run(["mvn", "-q", "-B", "dependency:copy-dependencies", "-DoutputDirectory=libs", "-DincludeScope=runtime"], folder)


def _fetch_clickhouse_lts(folder: Path) -> None:
    # Unpacked, never installed: it is an older version of a package that the project itself uses. The wheel serves
    # every Python 3 from 3.8 on, whichever one downloads it.
    run([sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:", "chdb==3.7.2"], folder)
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(
            folder, [name for name in archive.namelist() if name.endswith("_chdb.abi3.so") or ".libs/" in name]
        )
    wheel.unlink()


def _fetch_clickhouse_latest(folder: Path) -> None:
    run(["npm", "pack", "--silent", "@chdb/lib-linux-x64-gnu@26.7.3-stable.1"], folder)
    (tarball,) = folder.glob("*.tgz")
    with tarfile.open(tarball) as archive:
        archive.extract("package/libchdb.so", folder, filter="data")
    tarball.unlink()


KAFKA = Package("kafka", "4.3.1", "mvn", _fetch_kafka)
CLICKHOUSE_LTS = Package("clickhouse", "25.8", sys.executable, _fetch_clickhouse_lts, linux_x86_64_only=True)
CLICKHOUSE_LATEST = Package("clickhouse", "26.7", "npm", _fetch_clickhouse_latest, linux_x86_64_only=True)
