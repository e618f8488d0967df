"""Which tests prove that each of the 25 faults of etcd-operations, section 6, meets the right behaviour.

``tests/unit/test_matrix.py`` looks that they are there.  A test of chaos/ that stands in no line is missing in one.
"""

from __future__ import annotations

from typing import NamedTuple


class Scenario(NamedTuple):
    """A fault, what is right then, and the tests that make it happen, as ``FILE::TEST[ID]`` below tests/."""

    fault: str
    right: str
    tests: tuple[str, ...]


def _tests(folder: str, **files: str) -> tuple[str, ...]:
    return tuple(f"{folder}/test_{file}.py::test_{name}" for file, names in files.items() for name in names.split())


MATRIX = {
    1: Scenario(
        "a host cannot be reached at the first start",
        "nothing is started; if it dies in between, what is up is told, and the same command goes on",
        (
            *_tests("lab", trouble="host_that_is_off_before_the_first_deploy power_cut_in_the_middle"),
            *_tests("lab", trouble="etcd_that_cannot_start_on_one_host"),
            *_tests("chaos", bootstrap="two_hosts_are_lost_while_the_members_start members_cannot_call_each_other"),
        ),
    ),
    2: Scenario(
        "the first deploy again, on a living cluster",
        "nothing to do; never a new token, never state new over data",
        _tests("lab", deploy="from_nothing_to_a_cluster_and_then_nothing_to_do", trouble="run_that_is_cut_short"),
    ),
    3: Scenario(
        "data of another cluster on one host",
        "refused by name; set aside by its owner, never deleted",
        _tests("lab", guards="unfit_host[data-of-another-cluster] host_of_another_cluster"),
    ),
    4: Scenario(
        "one member begins with another token",
        "told; only what has never joined is set aside",
        _tests("chaos", bootstrap="one_member_begins_with_another_token"),
    ),
    5: Scenario(
        "the data disk is not mounted, or wiped, and the service starts",
        "the guard keeps it down, at boot too; replace-member is what is proposed, and the others are not touched",
        _tests("lab", guards="lost_data_directory_of_a_member", replace="wiped_directory"),
    ),
    6: Scenario(
        "two of three are wiped",
        "nothing happens by itself; recover, from the survivor, when somebody says so",
        (*_tests("chaos", disk="two_of_three_are_wiped"), *_tests("lab", recover="two_of_three_hosts_are_lost")),
    ),
    7: Scenario(
        "a member is away during a restart, an upgrade, a defragmentation or a renewal",
        "stopped before a second voter goes down; what goes on from there is said",
        (
            *_tests("lab", everyday="one_member_stopped", rolling="member_that_does_not_come_back_ends_the_run"),
            *_tests("lab", trouble="unreachable_host_stops_a_change_before_the_first_host"),
            *_tests("lab", space="no_defragmentation_while_a_member_is_away"),
            *_tests("chaos", network="another_member_is_lost_while_one_restarts"),
            *_tests("chaos", network="member_that_sends_nothing_to_the_others member_that_the_others_cannot_call"),
            *_tests("chaos", frozen="frozen_member"),
        ),
    ),
    8: Scenario(
        "the line is lost in the middle of a task",
        "what is done there is done whole or not at all; the same command goes on from what it sees",
        (
            *_tests("lab", trouble="run_that_is_cut_short", restore="host_that_is_lost_in_the_middle"),
            *_tests("lab", operation="a_connection_that_is_lost_in_the_middle_of_a_command"),
            *_tests("chaos", network="line_is_cut_in_the_middle_of_a_command"),
        ),
    ),
    9: Scenario(
        "two operators at once",
        "the second one is refused, and told who has it",
        (
            *_tests("unit", lock="one_has_it_the_other_is_told_who_and_then_gets_it"),
            *_tests("lab", operation="of_two_that_begin_in_the_same_instant_one_goes_on"),
            *_tests("lab", operation="what_goes_on_while_a_run_has_the_lock_and_what_becomes_of_it"),
            *_tests("lab", backup="two_backups_at_once"),
            *_tests("chaos", operators="second_one_is_refused_and_reading_goes_on"),
        ),
    ),
    10: Scenario(
        "the leader dies while a member is added or promoted",
        "what the membership says decides; never added twice",
        _tests("lab", replace="leader_dies_while_the_new_one_catches_up", growth="run_that_is_killed"),
    ),
    11: Scenario(
        "the new member never starts",
        "a learner at most, which is taken out again; the cluster is as it was",
        _tests("lab", growth="one_that_never_starts_leaves_the_cluster_as_it_was"),
    ),
    12: Scenario(
        "one of three is dead, and another is to be added",
        "refused: remove first, as replace-member does",
        _tests("lab", growth="nobody_is_added_while_one_is_down", replace="dead_host_that_comes_back_in_the_middle"),
    ),
    13: Scenario(
        "a removal that would cost the quorum",
        "refused, with the arithmetic",
        _tests("lab", membership="what_would_cost_the_quorum_is_refused down_to_one"),
    ),
    14: Scenario(
        "the host of a removed member comes back",
        "its unit is gone, its data set aside; it stays down",
        _tests("lab", membership="dead_member_goes_and_stays_down_when_its_host_comes_back"),
    ),
    15: Scenario(
        "a snapshot that is cut, has a flipped bit, or is of another cluster",
        "refused before anything stops",
        _tests("lab", restore="damaged_snapshot snapshot_of_another_cluster", backup="damage_is_told"),
    ),
    16: Scenario(
        "a backup from a member that is behind, cut off or a learner; a full disk where it goes",
        "another member, or none; what was there stays, and nothing half-made",
        (
            *_tests("lab", backup="source_that_is_cut_off_in_the_middle cluster_without_quorum_has_no_backup"),
            *_tests("lab", backup="learner_is_never_the_source disk_of_the_store_is_full"),
            *_tests("lab", backup="disk_of_the_store_gets_full_while_it_is_written etcd_that_dies_in_the_middle"),
            *_tests("lab", schedule="member_that_is_cut_off_makes_none full_disk"),
            *_tests("chaos", network="member_that_sends_nothing_to_the_others", frozen="frozen_member"),
        ),
    ),
    17: Scenario(
        "a restore fails on one of three hosts",
        "nothing is renamed anywhere, and the old cluster serves",
        _tests("lab", restore="full_disk_of_one_host_stops_nothing etcd_that_refuses_to_start_on_one_host"),
    ),
    18: Scenario(
        "an old member is alive after a restore",
        "another token keeps it out; it is told, and the way out is written down",
        _tests("lab", recover="three_of_five_hosts_are_lost_and_come_back"),
    ),
    19: Scenario(
        "one member alone is restored, by hand",
        "no task does it; it is found, and replaced",
        _tests("chaos", disk="one_member_restored_by_hand"),
    ),
    20: Scenario(
        "NOSPACE",
        "red on 3.4, too; the way out in the right order, never the alarm first, and never CORRUPT",
        (
            *_tests("lab", space="way_out_of_a_full_quota stops_where_live_data_alone_fills_the_quota"),
            *_tests("lab", space="corrupt_is_never_ended"),
        ),
    ),
    21: Scenario(
        "the disk of one member is full",
        "it goes down and the others serve; nothing is begun that needs room; with room it is back",
        (
            *_tests("chaos", disk="disk_is_full_on_one_member"),
            *_tests("lab", space="no_defragmentation_without_room_on_the_disk"),
        ),
    ),
    22: Scenario(
        "silent corruption, and CORRUPT",
        "the minority is named by its hash and replaced; the alarm never ends first",
        (
            *_tests("chaos", disk="flipped_byte_and_its_member_replaced"),
            *_tests("lab", space="one_flipped_byte_is_found_and_its_member_named corrupt_is_never_ended"),
        ),
    ),
    23: Scenario(
        "certificates that have ended or are wrong, clocks that differ",
        "told before; no restart into it; renewed without one; another CA only by way of a bundle",
        (
            *_tests(
                "chaos", expired="all_pairs_of_all_members_have_ended member_that_was_restarted_with_an_ended_pair"
            ),
            *_tests("lab", doctor="fault[certificate-has-ended] fault[clock] days_left_tell_both_certificates"),
            *_tests("lab", guards="lost_pki_folder new_ca_that_no_member_has_read_yet"),
            *_tests("lab", check="fault[CA-that-has-ended]"),
        ),
    ),
    24: Scenario(
        "an upgrade that cannot be, or goes wrong",
        "refused before anything is done; one that does not come back gets its old release again",
        (
            *_tests("lab", upgrade="what_cannot_be_is_said_before_anything_is_done"),
            *_tests("lab", upgrade="member_that_does_not_run_with_it_gets_the_old_release_again"),
            *_tests("lab", upgrade="killed_in_the_middle_the_same_command_goes_on"),
            *_tests("lab", trouble="bad_archive_reaches_no_host"),
        ),
    ),
    25: Scenario(
        "quorum is lost, and some of it comes back during the recovery",
        "the others are proven to be down first, and looked for afterwards",
        (
            *_tests("lab", recover="a_host_that_answers_is_not_lost refused_while_enough_hosts_have_their_data"),
            *_tests("lab", recover="three_of_five_hosts_are_lost_and_come_back"),
        ),
    ),
}
