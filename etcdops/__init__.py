"""etcdops: deploy and run etcd clusters on plain Linux hosts over SSH."""

__version__ = "0.1.0"
