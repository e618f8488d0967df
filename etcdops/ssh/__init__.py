"""Commands on the members' hosts over SSH: ``Fleet`` holds them, ``Host`` runs a script on one as root.

Only ``dialer``, ``link`` and ``identities`` know Fabric and paramiko; they are imported when the first host is used.
"""

from etcdops.ssh.fleet import Fleet
from etcdops.ssh.host import Completed, Envelope, Host, Outcome, Stream, again
from etcdops.ssh.session import Session

__all__ = ["Completed", "Envelope", "Fleet", "Host", "Outcome", "Session", "Stream", "again"]
