"""Operation: what is around a changing run: the lock of its cluster, and its record."""

from etcdops.operation.lock import Lock
from etcdops.operation.operation import Operation
from etcdops.operation.owner import Controller, Held, Owner

__all__ = ["Controller", "Held", "Lock", "Operation", "Owner"]
