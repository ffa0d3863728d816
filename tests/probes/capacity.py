"""The computed tables of docs/scaling.md from measured figures: `.venv/bin/python -m tests.probes.capacity`. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What tests.probes.scaling found, rounded up. CPU in microseconds."""

    delivery: float = 10
    hear_alone: float = 60
    hear_busy: float = 20  # per broadcast, from 1,000 a second on: several come at once
    connect: float = 265
    valkey_publish: float = 8
    valkey_per_gateway: float = 2.7
    postgres_accept: float = 100
    gateway_accept: float = 310
    wire_bytes: float = 640  # out, for 200 bytes of text as JSON with a client id: frame, TCP/IP, Ethernet, gaps
    ack_bytes: float = 99  # in
    broadcast_bytes: float = 520
    wal_bytes: float = 900
    member_bytes: float = 5200
    socket_bytes: float = 4096  # of the kernel, while nothing waits in it
    heal_ms_per_1000_rooms: float = 0.14


@dataclass(frozen=True, kw_only=True)
class Machines:
    """What is assumed of the machines and of how full one may be."""

    cores: int = 8
    share: float = 0.5  # of a core that a gateway takes on average: the rest is for bursts and for losing a machine
    sockets: int = 19_000  # CONNECTION_MAX_PER_GATEWAY
    process_bytes: float = 150e6
    heal_seconds: float = 2.0


@dataclass(frozen=True, kw_only=True)
class Crowd:
    """Members, evenly spread over rooms, and messages a second in each room."""

    name: str
    members: int
    rooms: int = 1
    rate: float


CROWDS = (
    Crowd(name="100,000 in one room, 1 msg/s", members=100_000, rate=1),
    Crowd(name="100,000 in one room, 5 msg/s", members=100_000, rate=5),
    Crowd(name="1,000,000 in one room, 1 msg/s", members=1_000_000, rate=1),
    Crowd(name="1,000,000 in one room, 5 msg/s", members=1_000_000, rate=5),
    Crowd(name="10,000 rooms of 100, 0.1 msg/s each", members=1_000_000, rooms=10_000, rate=0.1),
    Crowd(name="10,000 rooms of 100, 1 msg/s each", members=1_000_000, rooms=10_000, rate=1),
)


@dataclass(frozen=True, kw_only=True)
class Need:
    """What a crowd needs. Cores are of work, on average."""

    gateways: int
    machines: int
    fan_out_cores: float
    hear_cores: float
    spread: float  # gateways that a room's members are on
    out_gbit: float
    in_gbit: float
    machine_gbit: float
    machine_gb: float
    redis_publishes: float
    redis_cores: float
    redis_mbit: float
    postgres_cores: float
    wal_mb: float
    everyone_ms: float
    back_seconds: float


def gateways_for(crowd: Crowd, measured: Measured, machines: Machines) -> int:
    """Return how many gateways hold the crowd with each at its share of a core. 0: none do."""
    for count in range(1, 1000):
        work = crowd.members * crowd.rate * measured.delivery / count
        work += hearing(crowd, measured, count) / count
        work += crowd.rooms * crowd.rate * measured.gateway_accept / count
        if crowd.members <= count * machines.sockets and work <= machines.share * 1e6:
            return count
    return 0


def hearing(crowd: Crowd, measured: Measured, gateways: int) -> float:
    """Return CPU microseconds a second that all gateways take to hear the broadcasts of their rooms."""
    heard = crowd.rooms * crowd.rate * spread(crowd, gateways)
    return heard * (measured.hear_busy if heard / gateways >= 1000 else measured.hear_alone)


def spread(crowd: Crowd, gateways: int) -> float:
    """Return on how many gateways a room's members are when each came to any of them."""
    return float(gateways * (1 - (1 - 1 / gateways) ** (crowd.members / crowd.rooms)))


def need(crowd: Crowd, measured: Measured, machines: Machines) -> Need:
    """Return what a crowd needs."""
    gateways = gateways_for(crowd, measured, machines)
    count = ceil(gateways / machines.cores)
    messages, deliveries = crowd.rooms * crowd.rate, crowd.members * crowd.rate
    wide = spread(crowd, gateways)
    rooms_here = crowd.rooms * wide / gateways
    out = deliveries * measured.wire_bytes * 8 / 1e9
    heal = gateways / machines.heal_seconds * rooms_here / 1000 * measured.heal_ms_per_1000_rooms / 1000
    rest = max(1, gateways - machines.cores)
    free = machines.cores * (1 - machines.share) * max(1, count) if count == 1 else rest * (1 - machines.share)
    lost = min(crowd.members, crowd.members / count)
    member = measured.member_bytes + measured.socket_bytes
    return Need(
        gateways=gateways,
        machines=count + 1,
        fan_out_cores=deliveries * measured.delivery / 1e6,
        hear_cores=hearing(crowd, measured, gateways) / 1e6,
        spread=wide,
        out_gbit=out,
        in_gbit=deliveries * measured.ack_bytes * 8 / 1e9,
        machine_gbit=out / count,
        machine_gb=(min(machines.cores, gateways) * machines.process_bytes + crowd.members / count * member) / 1e9,
        redis_publishes=messages,
        redis_cores=messages * (measured.valkey_publish + wide * measured.valkey_per_gateway) / 1e6,
        redis_mbit=messages * wide * measured.broadcast_bytes * 8 / 1e6,
        postgres_cores=messages * measured.postgres_accept / 1e6 + heal,
        wal_mb=messages * measured.wal_bytes / 1e6,
        everyone_ms=crowd.members / crowd.rooms / wide * measured.delivery / 1000,
        back_seconds=lost * measured.connect / 1e6 / free,
    )


def tables() -> str:
    """Return the tables in Markdown."""
    measured, machines = Measured(), Machines()
    found = [(crowd.name, need(crowd, measured, machines)) for crowd in CROWDS]
    lines = [
        "| crowd | gateways | machines | fan-out, cores | hearing, cores | RAM each | out, total | out each |",
        "|---|---|---|---|---|---|---|---|",
        *(
            f"| {name} | {n.gateways} | {n.machines - 1} + 1 | {n.fan_out_cores:.1f} | {n.hear_cores:.1f} | "
            f"{n.machine_gb:.1f} GB | {n.out_gbit:.2f} Gbit/s | {n.machine_gbit:.2f} Gbit/s |"
            for name, n in found
        ),
        "",
        "| crowd | PUBLISH/s | heard by | Redis, cores | its out | Postgres, cores | WAL | all have it | back |",
        "|---|---|---|---|---|---|---|---|---|",
        *(
            f"| {name} | {n.redis_publishes:,.0f} | {n.spread:.0f} gateways | {n.redis_cores:.2f} | "
            f"{n.redis_mbit:,.0f} Mbit/s | {n.postgres_cores:.2f} | {n.wal_mb:.1f} MB/s | {n.everyone_ms:.0f} ms | "
            f"{n.back_seconds:.1f} s |"
            for name, n in found
        ),
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    print(tables())
