"""The store of config.yaml, whichever kind it is."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from etcdops.config import Config
from etcdops.snapshots.store import FolderStore, Store


@contextmanager
def open_store(config: Config) -> Iterator[Store]:
    """The store of config.yaml, encrypting if it says so.  Nothing is connected or made before it is needed."""
    from etcdops.snapshots.age import Encrypted

    backup = config.backup
    store: Store
    if backup.s3:
        from etcdops.snapshots.s3 import S3Store

        store = S3Store(backup.s3)
    elif backup.sftp:
        from etcdops.snapshots.sftp import SftpStore

        store = SftpStore(backup.sftp, config.ssh, config.resolve)
    else:
        store = FolderStore(config.resolve(backup.dir))
    store = Encrypted(store, backup.age, config.resolve)
    try:
        yield store
    finally:
        store.close()
