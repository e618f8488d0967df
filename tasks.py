"""The steps of the etcd cluster guide as tasks: this file is their table of contents."""

from __future__ import annotations

from invoke.collection import Collection

from etcdops.tasks import develop, guide, keys, lab, look, members, room, snapshots, transport, trust, versions

ns = Collection(
    guide.gen_ca,
    guide.gen_server_cert,
    guide.install,
    guide.distribute,
    guide.configure,
    guide.start,
    guide.stop,
    guide.restart,
    guide.deploy,
    guide.adopt,
    versions.upgrade,
    versions.downgrade,
    trust.rotate_certs,
    trust.rotate_ca,
    transport.enable_tls,
    transport.disable_tls,
    look.health,
    look.status,
    look.members,
    look.doctor,
    look.check,
    look.check_data,
    look.alarms,
    look.verify,
    look.history,
    members.move_leader,
    members.add_member,
    members.remove_member,
    members.replace_member,
    members.move_member,
    members.auth_enable,
    members.auth_disable,
    room.defrag,
    room.compact,
    room.space,
    keys.keys,
    keys.get,
    keys.put,
    keys.del_,
    keys.etcdctl,
    snapshots.backup,
    snapshots.restore,
    snapshots.restore_undo,
    snapshots.recover,
    develop.test,
)
ns.add_collection(
    Collection(
        "snapshot",
        snapshots.list_,
        snapshots.verify,
        snapshots.prune,
        snapshots.drop,
        snapshots.schedule,
        snapshots.unschedule,
    )
)
ns.add_collection(Collection("lab", lab.up, lab.down, lab.status, lab.demo, lab.off, lab.on, lab.cut, lab.heal))
ns.add_collection(Collection("dev", develop.bench, develop.lock, develop.format_, develop.pictures_))
