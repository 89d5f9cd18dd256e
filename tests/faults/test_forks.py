"""F16: processes fork while they have connections."""

from __future__ import annotations

from .harness import job
from .harness import Load
from .harness import Rig
from .harness import Scale


def test_both_sides_of_a_fork_can_send(rig: Rig, scale: Scale) -> None:
    """F16: a web server that was forked after the app had sent, and jobs that fork: all of
    them send at the same time, and every job is there once."""
    web = rig.start_web(
        "--preload", "--workers", "2", "--threads", "2", FAULTS_SEND_AT_BOOT="1"
    )
    rig.start_worker(1)
    count = scale.jobs // 10
    with Load(web, lambda: [job("work", 0)], interval=0.01):
        # Each forks while the threads beside it send.
        sent = web.send(*(job("send_from_both_sides", count) for _ in range(rig.threads)))
        rig.wait_until_done(sent)
    history = rig.check()
    senders = {one["pid"] for one in history.of("intent")}
    assert len(senders) >= 1 + 1 + 1 + rig.threads
    assert len(history.sent) > 2 * rig.threads * count
    assert {sent.outcome for sent in history.sent.values()} == {"sent"}
    assert {one["outcome"] for one in history.of("end")} == {"ok"}
