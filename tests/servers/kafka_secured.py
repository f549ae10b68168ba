"""A Kafka broker as a careful operator sets it up: TLS, logins, client certificates, and rights by ACL."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from kafka.admin import (
    ACL,
    ACLFilter,
    ACLOperation,
    ACLPermissionType,
    ACLResourcePatternType,
    ResourcePattern,
    ResourcePatternFilter,
    ResourceType,
)

from tests.servers.certificates import Authority
from tests.servers.kafka import Kafka
from tests.servers.process import free_ports

MECHANISMS = "PLAIN,SCRAM-SHA-256,SCRAM-SHA-512"
HERE = "IP:127.0.0.1,DNS:localhost"
_SCRAM = "org.apache.kafka.common.security.scram.ScramLoginModule required;"
_PLAIN = "org.apache.kafka.common.security.plain.PlainLoginModule required"


class SecuredKafka(Kafka):
    """A broker with listeners for every kind of security beside the one without any, whose clients may do everything.

    `sasl`, `tls` and `sasl_tls` are `HOST:PORT`; `tls` asks clients for certificates signed by `authority`, `expired`
    and `misnamed` show certificates of their own that are out of date and for another host, and `astray` sends clients
    to a port where nobody listens. Rights are given with
    `allow`; who has none may do nothing.
    """

    def __init__(self, data_dir: Path, users: Mapping[str, str]) -> None:
        super().__init__(data_dir, users=users)
        self._ports = dict(zip(("TLS", "SASLTLS", "EXPIRED", "MISNAMED", "ASTRAY"), free_ports(5), strict=True))

    @property
    def tls(self) -> str:
        """The listener that asks for client certificates."""
        return f"127.0.0.1:{self._ports['TLS']}"

    @property
    def sasl_tls(self) -> str:
        """The listener for logins within TLS."""
        return f"127.0.0.1:{self._ports['SASLTLS']}"

    @property
    def expired(self) -> str:
        """The listener whose certificate is out of date."""
        return f"127.0.0.1:{self._ports['EXPIRED']}"

    @property
    def misnamed(self) -> str:
        """The listener whose certificate is for another host."""
        return f"127.0.0.1:{self._ports['MISNAMED']}"

    @property
    def astray(self) -> str:
        """The listener that says that the broker is somewhere else."""
        return f"127.0.0.1:{self._ports['ASTRAY']}"

    def allow(self, user: str, kind: str, name: str, *operations: str) -> None:
        """Give rights: `allow("audit", "topic", "usage-events", "read", "describe")`.

        Raises:
            kafka.errors.KafkaError: the broker refused it.
        """
        resource = ResourcePattern(ResourceType[kind.upper()], name)
        admin = self._admin()
        try:
            admin.create_acls(
                [
                    ACL(f"User:{user}", "*", ACLOperation[operation.upper()], ACLPermissionType.ALLOW, resource)
                    for operation in operations
                ]
            )
        finally:
            admin.close()

    def disallow(self, user: str, kind: str, name: str) -> None:
        """Take all rights of a user on something.

        Raises:
            kafka.errors.KafkaError: the broker refused it.
        """
        resource = ResourcePatternFilter(ResourceType[kind.upper()], name, ACLResourcePatternType.LITERAL)
        admin = self._admin()
        try:
            admin.delete_acls([ACLFilter(f"User:{user}", "*", ACLOperation.ANY, ACLPermissionType.ANY, resource)])
        finally:
            admin.close()

    def _clients(self) -> dict[str, str]:
        return {**super()._clients(), **{name: f"127.0.0.1:{port}" for name, port in self._ports.items()}}

    def _own_properties(self) -> Mapping[str, str]:
        self.authority = authority = Authority(self.data_dir / "authority")
        right = authority.sign("broker", HERE).chain
        chains = {
            "TLS": right,
            "SASLTLS": right,
            "EXPIRED": authority.sign("broker", HERE, expires="20210101000000Z").chain,
            "MISNAMED": authority.sign("broker.example.com", "DNS:broker.example.com").chain,
        }
        logins = " ".join(f'user_{name}="{password}"' for name, password in self._users.items())
        places = self._clients() | {"ASTRAY": "127.0.0.1:9"}
        found: dict[str, str] = {
            "advertised.listeners": ",".join(f"{name}://{place}" for name, place in places.items()),
            "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
            "super.users": "User:ANONYMOUS",
            "sasl.enabled.mechanisms": MECHANISMS,
            "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,SASL:SASL_PLAINTEXT,"
            "TLS:SSL,SASLTLS:SASL_SSL,EXPIRED:SSL,MISNAMED:SSL,ASTRAY:PLAINTEXT",
        }
        for listener in ("sasl", "sasltls"):
            prefix = f"listener.name.{listener}"
            found |= {f"{prefix}.{name}.sasl.jaas.config": _SCRAM for name in ("scram-sha-256", "scram-sha-512")}
            found[f"{prefix}.plain.sasl.jaas.config"] = f"{_PLAIN} {logins};"
        for listener, chain in chains.items():
            prefix = f"listener.name.{listener.lower()}"
            found |= {f"{prefix}.ssl.keystore.type": "PEM", f"{prefix}.ssl.keystore.location": str(chain)}
        trusted = {"type": "PEM", "location": str(authority.certificate)}
        found |= {f"listener.name.tls.ssl.truststore.{name}": value for name, value in trusted.items()}
        return found | {"listener.name.tls.ssl.client.auth": "required", "ssl.principal.mapping.rules": "DEFAULT"}

    def _scram(self) -> Sequence[str]:
        kinds = ("SCRAM-SHA-256", "SCRAM-SHA-512")
        return [f"{kind}=[name={n},password={p}]" for kind in kinds for n, p in self._users.items()]
