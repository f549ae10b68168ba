"""The programs that the scripts in deploy/ call, as a folder for the PATH or for KAFKA_HOME.

Kafka's own are scripts that run one Java class each, and so are these. The client of ClickHouse is in the library that
the server of the tests is in.
"""

import sys
from collections.abc import Mapping
from pathlib import Path

from tests.servers.packages import CLICKHOUSE_LTS, KAFKA, Package, run

# bin/*.sh of Kafka 4.3, each with the class that it runs.
CLASSES = {
    "kafka-storage.sh": "kafka.tools.StorageTool",
    "kafka-server-start.sh": "kafka.Kafka",
    "kafka-configs.sh": "kafka.admin.ConfigCommand",
    "kafka-topics.sh": "org.apache.kafka.tools.TopicCommand",
    "kafka-acls.sh": "org.apache.kafka.tools.AclCommand",
    "kafka-consumer-groups.sh": "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand",
}
POM = """\
<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>usageaudit.tests</groupId>
  <artifactId>kafka-tools</artifactId>
  <version>1</version>
  <dependencies>
    <dependency>
      <groupId>org.apache.kafka</groupId>
      <artifactId>kafka-tools</artifactId>
      <version>4.3.1</version>
      <exclusions>
        <exclusion><groupId>org.apache.kafka</groupId><artifactId>connect-runtime</artifactId></exclusion>
        <exclusion><groupId>org.apache.logging.log4j</groupId><artifactId>*</artifactId></exclusion>
      </exclusions>
    </dependency>
  </dependencies>
</project>
"""
CLIENT = """\
import ctypes, os, sys
arguments = ["clickhouse-client", *sys.argv[1:]]
vector = (ctypes.c_char_p * (len(arguments) + 1))(*(one.encode() for one in arguments), None)
code = ctypes.CDLL({library!r})._Z25mainEntryClickHouseClientiPPc(len(arguments), vector)
ctypes.CDLL(None).fflush(None)
os._exit(code)
"""


def _fetch_tools(folder: Path) -> None:
    (folder / "pom.xml").write_text(POM, encoding="utf-8")
    run(["mvn", "-q", "-B", "dependency:copy-dependencies", "-DoutputDirectory=libs", "-DincludeScope=runtime"], folder)


KAFKA_TOOLS = Package("kafka-tools", "4.3.1", "mvn", _fetch_tools)


def kafka_home(folder: Path) -> Path:
    """Return a folder whose `bin` has Kafka's tools.

    Raises:
        UnavailableError: the machine can't have them.
    """
    libraries = [KAFKA.install() / "libs" / "*", KAFKA_TOOLS.install() / "libs" / "*"]
    java = f"exec java -Xmx512m -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -cp '{':'.join(map(str, libraries))}'"
    return _programs(folder, {name: f'#!/bin/sh\n{java} {main} "$@"\n' for name, main in CLASSES.items()})


def clickhouse_home(folder: Path) -> Path:
    """Return a folder whose `bin` has `clickhouse-client`.

    Raises:
        UnavailableError: the machine can't have it.
    """
    library = CLICKHOUSE_LTS.install() / "chdb" / "_chdb.abi3.so"
    text = CLIENT.format(library=str(library))
    return _programs(folder, {"clickhouse-client": f"#!{sys.executable} -IS\n{text}"})


def _programs(folder: Path, texts: Mapping[str, str]) -> Path:
    binaries = folder / "bin"
    binaries.mkdir(parents=True)
    for name, text in texts.items():
        (binaries / name).write_text(text, encoding="utf-8")
        (binaries / name).chmod(0o755)
    return folder
