"""The lab's network: one bridge on this machine, a cable from it to each host, and no way out.

198.18.0.0/15 is set aside for benchmarks (RFC 2544), so it is nobody's LAN; the IPv6 prefix is a unique local
one (RFC 4193).
"""

from __future__ import annotations

import ipaddress
import json
import shutil
from pathlib import Path
from typing import Any, Literal

from etcdops.errors import OpsError, Refused
from etcdops.lab.process import ENVIRONMENT, run, succeeds

BRIDGE = "etcdops0"
IPV4 = "198.18.40"
IPV6 = "fd00:e7cd:40:"
MOST_HOSTS = 99  # addresses end in .101 to .199
_FAR = "4096"  # a metric above that of the bridge's own route, which wins while the bridge is up

Cable = Literal["plugged", "cut", "none"]


def address(number: int) -> str:
    """The IPv4 address of the host with this number, which counts from 1."""
    return f"{IPV4}.{100 + number}"


def address6(number: int) -> str:
    """The IPv6 address of the host with this number."""
    return f"{IPV6}:{100 + number}"


def has_ipv6() -> bool:
    """Whether this machine's kernel speaks IPv6 at all."""
    switch = Path("/proc/sys/net/ipv6/conf/all/disable_ipv6")
    return switch.exists() and switch.read_text().strip() == "0"


def up() -> None:
    """Make what is missing of the bridge; ``Refused`` if another interface has the lab's network."""
    for each in _interfaces():
        if each["ifname"] != BRIDGE and (theirs := taken(each)):
            raise Refused(
                f"{each['ifname']} of this machine is in {theirs}, which holds the lab's own addresses",
                hint=f"ip address show dev {each['ifname']}",
            )
    # First of all, and for good: a packet for a host that is down must never leave by the default route.
    run(["ip", "route", "replace", "unreachable", f"{IPV4}.0/24", "metric", _FAR])
    if has_ipv6():
        run(["ip", "-6", "route", "replace", "unreachable", f"{IPV6}:/64", "metric", _FAR])
    if not any(each["ifname"] == BRIDGE for each in _interfaces()):
        run(["ip", "link", "add", BRIDGE, "type", "bridge"])
    run(["ip", "address", "replace", f"{IPV4}.1/24", "dev", BRIDGE])
    if has_ipv6():
        run(["ip", "address", "replace", f"{IPV6}:1/64", "dev", BRIDGE, "nodad"])
    run(["ip", "link", "set", BRIDGE, "up"])
    for rule in _firewall():
        if not succeeds([*rule, "-C", *_FORWARD]):
            run([*rule, "-I", *_FORWARD])


def down() -> None:
    """Take the bridge away, unless hosts of another lab are on it.  The unreachable routes stay."""
    if cables():
        return
    for rule in _firewall():
        if succeeds([*rule, "-C", *_FORWARD]):
            run([*rule, "-D", *_FORWARD])
    if any(each["ifname"] == BRIDGE for each in _interfaces()):
        run(["ip", "link", "delete", BRIDGE])


def cables() -> dict[str, Cable]:
    """The state of each host's cable; a host that is off has none."""
    prefix = "vb-"  # as systemd-nspawn names the bridge's end
    return {
        each["ifname"].removeprefix(prefix): "plugged" if "UP" in each["flags"] else "cut"
        for each in _interfaces()
        if each.get("master") == BRIDGE and each["ifname"].startswith(prefix)
    }


def set_cable(name: str, state: Literal["plugged", "cut"]) -> None:
    """Plug the cable of ``name`` in, or pull it; the host itself goes on running."""
    if name not in cables():
        raise OpsError("is off, so it has no cable", host=name, hint=f"inv lab.on {name}")
    run(["ip", "link", "set", f"vb-{name}", "up" if state == "plugged" else "down"])


def _interfaces() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(run(["ip", "-json", "address", "show"]))
    return found


def taken(interface: dict[str, Any]) -> str:
    """The network of an interface that would take packets for a host of ours; empty if there is none."""
    ours = [f"{IPV4}.1", f"{IPV6}:1"]
    ours += [each for number in range(1, MOST_HOSTS + 1) for each in (address(number), address6(number))]
    addresses = [ipaddress.ip_address(each) for each in ours]
    for each in interface["addr_info"]:
        network = ipaddress.ip_network(f"{each['local']}/{each['prefixlen']}", strict=False)
        if any(address in network for address in addresses):
            return str(network)
    return ""


# Docker sets the policy of FORWARD to DROP, and where br_netfilter is on, that hits frames between two ports
# of one bridge as well: the hosts would answer us, and never each other.
_FORWARD = ("FORWARD", "-i", BRIDGE, "-o", BRIDGE, "-j", "ACCEPT")


def _firewall() -> list[list[str]]:
    programs = {"iptables": "bridge-nf-call-iptables", "ip6tables": "bridge-nf-call-ip6tables"}
    return [
        [program, "-w"]
        for program, switch in programs.items()
        if _is_on(Path("/proc/sys/net/bridge") / switch) and shutil.which(program, path=ENVIRONMENT["PATH"])
    ]


def _is_on(switch: Path) -> bool:
    return switch.exists() and switch.read_text().strip() == "1"
