"""Deliberate bugs in the scripts. A harness is trusted only if it kills them: `test_mutant.py` requires that each dies.

As a pytest plugin (`-p tests.fault.mutant`) it puts the bug that `BLAZING_MUTANT` names into the scripts.

    python -m tests.fault.mutant --seeds 8 > docs/mutants.md

writes the table of which test finds which, and in which schedule of the simulation each dies.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from blazing_nb.store import script

ROOT = Path(__file__).parents[2]


class Mutant(NamedTuple):
    """In `file`, `right` becomes `wrong`."""

    file: str
    right: str
    wrong: str


TESTS = tuple(
    f"tests/store/test_{name}.py"
    for name in ("script", "reassert", "follow", "join", "wait", "effect", "sharing", "tick")
)
FOLLOW = "follow(name, id, claims[i], token, 'S', next_[i][1], enqueued[i], now)"
MUTANTS = {
    "no_fence": Mutant("_commit", "if have[id] == claims[i] then", "if true then"),
    "fence_without_claim_number": Mutant("_commit", "if have[id] == claims[i] then", "if have[id] then"),
    "effect_before_the_fence": Mutant(
        "_commit",
        "if have[id] == claims[i] then",
        "if EFFECTS then effect(name .. ':' .. id, hist) end if have[id] == claims[i] then",
    ),
    "effect_of_a_failure": Mutant("_commit", "if letter == 'S' and EFFECTS", "if EFFECTS"),
    "effects_of_all": Mutant("_effect", "ipairs(EFFECTS[op] or {})", "ipairs(select(2, next(EFFECTS)) or {})"),
    "a_message_is_published_twice": Mutant("publish", "if tonumber(n) >= q.n then", "if false then"),
    "tick_fired_by_whoever_comes": Mutant("tick", "if due ~= q.due_ms or version", "if version"),
    "tick_is_not_its_operations_key": Mutant("tick", "if redis.call('EXISTS', uniq) == 0 then", "if true then"),
    "schedule_defined_again_begins_anew": Mutant("schedule", "'version') == q.version then", "'version') == '' then"),
    "old_messages_go_silently": Mutant("_append", "if #old > 0 then", "if false then"),
    "merge_takes_the_last": Mutant("merge", "if not old or larger(old, ARGV[i + 1]) then", "if true then"),
    "fence_by_number_of_rows": Mutant(
        "_commit",
        "if have[id] == claims[i] then",
        "local rows = 0; for _ in pairs(have) do rows = rows + 1 end; if rows >= #ids then",
    ),
    "fence_without_owner": Mutant("_owned", "ids[#ids], held, worker)", "ids[#ids], held)"),
    "repeated_commit_is_lost": Mutant("_commit", "elseif not committed(name, id, token) then", "else"),
    "follow_up_before_the_fence": Mutant(
        "_commit",
        "if have[id] == claims[i] then",
        "if next_[i] and not have[id] then " + FOLLOW + " end; if have[id] == claims[i] then",
    ),
    "follow_up_of_the_unfiltered_batch": Mutant(
        "_commit",
        "elseif not committed(name, id, token) then",
        "elseif not committed(name, id, token) then if next_[i] then " + FOLLOW + " end",
    ),
    "follow_up_again_on_a_repeated_commit": Mutant(
        "_commit",
        "elseif not committed(name, id, token) then",
        "elseif committed(name, id, token) then if next_[i] then " + FOLLOW + " end else",
    ),
    "follow_up_of_a_failure": Mutant("_commit", "elseif letter == 'S' and next_[i] then", "elseif next_[i] then"),
    "cancelled_goes_on": Mutant("_follow", "'cancel') == 1 then", "'cancel') == 2 then"),
    "follow_up_is_not_activated": Mutant("_follow", "elseif not WRITTEN[name] then activate(name) end", "end"),
    "waiting_counts_as_an_attempt": Mutant("_wait", "'waits', 1 + deaths)", "'x', 1)"),
    "deaths_are_never_forgiven": Mutant("_wait", "redis.call('HDEL', live, 'deaths')", ""),
    "waits_though_it_was_cancelled": Mutant("_wait", "'cancel') == 1 then", "'cancel') == 2 then"),
    "a_wait_without_its_token": Mutant("_wait", "'token', token, 'waited'", "'waited'"),
    "misses_what_came_while_it_ran": Mutant("_wait", "if missing == 0 then due = now else", "do"),
    "an_old_wait_wakes_it": Mutant("_wait", "redis.call('DEL', waits)", ""),
    "any_of_a_group_wakes_it": Mutant("_child", "'#' .. group, -1) == 0 then", "'#' .. group, -1) >= 0 then"),
    "its_end_leaves_its_calls": Mutant("_child", "if string.find(field, '^%d+$') then", "if false then"),
    "an_outcome_is_not_in_its_history": Mutant("_child", "redis.call('HSET', hist, '=' .. position, record)", ""),
    "a_workflow_is_not_told": Mutant("_hear", "if fields.w then", "if false then"),
    "a_flow_ends_unheard": Mutant("_hear", "if fields.r then", "if false then"),
    "no_delete": Mutant("_finish", "redis.call('XDEL', seg, unpack(acks))", ""),
    "no_ack": Mutant("_finish", "redis.call('XACK', seg, 'w', unpack(acks))", ""),
    "rescue_without_death": Mutant("_rescue", "'deaths', 1)", "'deaths', 0)"),
    "consumer_dropped_with_pending": Mutant("_rescue", "local empty = #rows < limit", "local empty = true"),
    "rescue_leaves_the_worker": Mutant("_rescue", "redis.call('ZREM', P .. 'workers', worker)", ""),
    "rescue_does_not_park": Mutant("_rescue", "park(name, row[1], now + (deaths - 1) * (deaths - 1) * 1000)", ""),
    "suspects_run_beside_others": Mutant("_park", "if tonumber(deaths or '0') >= ALONE then", "if false then"),
    "no_cap_in_flight": Mutant("_limit", "if limit.cap > 0 then", "if false then"),
    "flight_is_never_freed": Mutant("_commit", "hist.flight = -accepted", "hist.flight = 0"),
    "rate_is_not_spent": Mutant("_limit", "full + n * limit.interval", "full"),
    "retried_twice": Mutant("retry", "if retried then return retried end", ""),
    "a_pruned_segment_forgets_its_last_id": Mutant(
        "_sweep", "redis.call('HSET', P .. 'last'", "local _ = ('HSET' .. P"
    ),
    "a_segment_with_entries_is_pruned": Mutant("_sweep", "redis.call('XLEN', P .. 'seg:' .. name) == 0", "true"),
    "progress_of_anyone": Mutant("_report", "mine[1] and mine[1][4] == claims", "true"),
    "deadline_ignored": Mutant("_expire", "if deadline and deadline <= now then", "if false then"),
    "paused_is_ignored": Mutant("_take", "== 1 then return budget end", "== 2 then return budget end"),
    "range_ends_early": Mutant("_owned", "local row = not have[id] and", "local row = false and"),
    "due_takes_every_claim_of_one": Mutant("_take", "'ones:' .. step, 1) % 2 or", "'ones:' .. step, 2) % 2 + 1 or"),
    "failed_is_forgotten": Mutant("_mourn", "redis.call('ZADD', P .. 'failed:' .. step, now + retention, op)", ""),
    "expiring_is_never_pruned": Mutant("_keep", "if #over > 0 then", "if false then"),
    "wakes_nobody": Mutant("_bell", "redis.call('RPUSH', key, '1') end", "end"),
    "done_is_capped": Mutant("_notify", "redis.call('XADD', key, '*',", "redis.call('XADD', key, 'MAXLEN', 1, '*',"),
    "two_step_claim": Mutant(
        "_take",
        "redis.pcall('XREADGROUP', 'GROUP', 'w', worker, 'COUNT', want, 'STREAMS', P .. 'seg:' .. name, '>')",
        "{{name, redis.call('XRANGE', P .. 'seg:' .. name, '-', '+', 'COUNT', want)}}",
    ),
    "cancelled_runs_again": Mutant("_again", "if redis.call('HEXISTS', live, 'cancel') == 1 then", "if false then"),
    "outage_kills": Mutant("_clock", "now - seen > quiet", "false"),
    "clock_goes_back": Mutant("_clock", "if now <= seen then return seen end", ""),
    "parking_counts_as_a_claim": Mutant("_park", "'@parked', 0, id, 'JUSTID')", "'@parked', 0, id)"),
    "unfair": Mutant("_take", "math.ceil(left / (#names - i + 1))", "left"),
    "zombie_may_claim": Mutant("turn", "if not redis.call('ZSCORE', P .. 'workers', q.worker) then", "if false then"),
    "rollback_is_not_noticed": Mutant("_known", "if missing > 0 and tonumber(incarnation) <=", "if 1 > 1 and 1 <="),
    "rollback_of_a_part_is_not_noticed": Mutant("_known", "missing - tonumber(counter)", "tonumber(counter) - missing"),
    "enqueue_forgets_known": Mutant("_known", "and 'known' end", "and 'added' end"),
    "old_incarnation_is_known": Mutant("_known", "and 'known' or 'fenced'", "and 'known' or 'known'"),
    "cap_ignored": Mutant("enqueue", "if q.cap > 0 and", "if false and"),
    "batch_offset_ignored": Mutant("enqueue", "if total ~= q.offset then", "if false then"),
    "join_by_decrement": Mutant("_settle", "if final[slot] then", "if true then"),
    "join_registers_again": Mutant("join", "or at ~= q.at then return at end", "then return at end"),
    "join_forgets_what_is_final": Mutant("_enroll", "if #hits > 0 then count(", "if false then count("),
    "join_takes_an_unknown_for_waiting": Mutant(
        "_enroll", "if present[slot] then", "if present[slot] or not records[i] then"
    ),
    "join_is_not_handed_on": Mutant("_finish", "hand_on(name, node, incarnation, chunks)", "false"),
    "unregistered_members_are_ignored": Mutant("enqueue", "if why then return", "if false then return"),
    "seal_ignored": Mutant("_join", "sealed = sealed and ENROLLING ~= op", "sealed, due = true, due or 0"),
    "a_group_is_decided_twice": Mutant("_join", "or group[7] == 1 then return", "then return"),
    "continuation_written_twice": Mutant(
        "_join", "place(name, id, now), 'XX',", "P .. 'parked:' .. string.match(name, '^[^:]*'),"
    ),
    "one_group_is_enough": Mutant("_join", "'open', -1) == 0 and sealed", "'open', -1) >= 0 and sealed"),
    "earlier_rounds_count": Mutant("_join", "have == round and packed and", "packed and"),
    "a_failure_is_a_success": Mutant("_join", "if counts == '*' or hit[2] == 'S' then", "if true then"),
    "joins_outlive_their_operation": Mutant("_next", "redis.call('DEL', unpack(keys)) > 0", "false"),
    "what_is_waited_for_is_not_held": Mutant(
        "_hold", "if left < 0 or left > HOLD_MS / 2 then return end", "if true then return end"
    ),
    "a_stage_is_taken_for_the_end": Mutant("_next", "string.byte(record, at + 1) == 151 and", "false and"),
    "what_went_on_is_forgotten": Mutant("_settle", "shift(op, round, g, moved, now)", ""),
    "settles_without_bound": Mutant("_settle", "SETTLE_LIMIT = 128", "SETTLE_LIMIT = 100000"),
    "settles_the_first_part_only": Mutant("_settle", "if at > #rows and #rows / 2 < left then", "if true then"),
    "suspended_without_a_fence": Mutant(
        "_commit",
        "if have[id] == claims[i] then",
        "if have[id] == claims[i] or string.sub(ARGV[at + i - 1], 1, 1) == 'J' then",
    ),
    "suspending_counts_as_an_attempt": Mutant("_suspend", "'waits', 1)", "'x', 1)"),
    "suspends_what_was_cancelled": Mutant(
        "_suspend", "if redis.call('HEXISTS', live, 'cancel') == 1 then", "if false then"
    ),
    "release_counts_as_a_death": Mutant("release", "'releases', 1)", "'x', 1)"),
    "anybody_gets_what_needs_another_python": Mutant("_due", "if other == python then", "if true then"),
    "the_needed_python_is_forgotten": Mutant("release", "redis.call('HSET', live, 'need', q.need)", "local _ = 1"),
    "release_of_anothers": Mutant("release", "id, id, 1, q.worker)[1]", "id, id, 1)[1]"),
    "an_older_state_takes_operations": Mutant("enqueue", "if restored then return", "if false then return"),
    "an_older_state_gives_operations": Mutant("turn", "if restored then q.lanes = {} end", ""),
    "reasserts_what_another_holds": Mutant("_unheld", "if row[2] ~= '@parked' then return false end", ""),
    "reasserts_over_a_claim_of_that_number": Mutant(
        "_unheld", "if row[4] ~= claims then return row[4] < claims end", "if true then return true end"
    ),
    "reasserts_over_a_later_claim": Mutant("_unheld", "return row[4] < claims end", "return true end"),
    "reasserts_not_what_was_rescued_from_it": Mutant("_unheld", "'^[^;]*;([^;]*);') == worker", "'^()') == worker"),
    "what_is_reasserted_stays_parked": Mutant("_unheld", "if row then unpark(name, id) end", ""),
    "what_is_reasserted_was_in_flight": Mutant("reassert", "if idle > 0 then tally", "if false then tally"),
    "reasserts_what_is_final": Mutant("_unheld", "not record_of(name, id) and", ""),
    "reasserts_what_is_not_finished": Mutant("reassert", "if not ENDED[letter] then", "if false then"),
    "reasserts_what_the_store_wrote": Mutant(
        "reassert", "if string.find(group[1], ':@', 1, true) then", "if false then"
    ),
    "what_comes_too_early_is_forgotten": Mutant("enqueue", "P .. 'ahead') == 1 then", "P .. 'ahead') == 2 then"),
    "what_came_too_early_is_enqueued_too": Mutant("_ahead", "finish(name, {{id, record, claims}}, now, retention)", ""),
    "effects_are_reasserted_without_their_operation": Mutant(
        "_unheld", "and not (EFFECTS and EFFECTS[op]) then", "then"
    ),
    "recover_claims_again": Mutant(
        "recover", "redis.call('XRANGE', seg, row[1], row[1])}", "redis.call('XCLAIM', seg, 'w', q.worker, 0, row[1])}"
    ),
}


def mutate(name: str) -> None:
    """Put a bug into every script that is loaded from now on."""
    mutant, source = MUTANTS[name], script._source

    def mutated(file: str) -> str:
        text = source(file)
        if file != mutant.file:
            return text
        assert mutant.right in text, f"{name}: {mutant.file}.lua has changed; mend the mutant"
        return text.replace(mutant.right, mutant.wrong)

    script._source = mutated
    script.load.cache_clear()


def killer(name: str) -> str | None:
    """The first test of the scripts that fails with that bug; None where it survives."""
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "tests.fault.mutant", *TESTS]
    environment = {**os.environ, "BLAZING_MUTANT": name}
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment, timeout=100, check=False)
    failed = re.search(r"^FAILED tests/store/\w+.py::(\S+)", done.stdout, re.MULTILINE)
    return failed[1] if done.returncode == 1 and failed else None


def table(killers: Mapping[str, str | None], at_seed: Mapping[str, int], seeds: int) -> str:
    """The page: by mutant, the test that finds it, and the first schedule of the simulation in which it dies."""
    head = f"""# Deliberate bugs, and the tests that find them

Written by `python -m tests.fault.mutant --seeds {seeds}`; `tests/fault/test_mutant.py` requires that each dies.
In the simulation (`python -m tests.fault.simulate --mutants`) {len(at_seed)} of {len(MUTANTS)} die within {seeds}
schedules; most of the others are in what it has no part for: workflows, channels and shared values, the rights
to read and write, older states that come back, bells, retention, and bounds of a single call.

| mutant | script | instead of | the first test that fails | dies in the simulation at seed |
|---|---|---|---|---|"""
    rows = [
        f"| {name} | {mutant.file} | `{mutant.right}` | {killers.get(name) or '**none**'} | {at_seed.get(name, '')} |"
        for name, mutant in MUTANTS.items()
    ]
    return "\n".join([head, *rows])


def main() -> int:
    from tests.fault.simulate import hunt

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=8, help="schedules of the simulation for each")
    seeds = parser.parse_args().seeds
    print(table({name: killer(name) for name in MUTANTS}, hunt(seeds)["at_seed"], seeds))
    return 0


if "BLAZING_MUTANT" in os.environ:
    mutate(os.environ["BLAZING_MUTANT"])
elif __name__ == "__main__":
    sys.exit(main())
