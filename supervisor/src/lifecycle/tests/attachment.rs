//! Which database the app has open (SUP-501).

use super::*;

fn watched() -> Rules {
    Rules { attach_wait: ms(60_000), ..rules() }
}

fn seen(ours: bool, others: &[&str], everything: bool) -> Event {
    Event::Looked(Seen { ours, others: others.iter().map(ToString::to_string).collect(), everything })
}

fn wal(end: u64) -> FromAgent {
    FromAgent::Status(Status { db: "/data/x.db".into(), wal_end: end, ..Status::default() })
}

/// Says that the agent lives until `until`, and how often and when a look was asked for.
fn looks(run: &mut Run, until: u64) -> Vec<u128> {
    let mut looks = Vec::new();
    while let Some(deadline) = run.machine.deadline().filter(|d| *d <= ms(until)) {
        let at = u64::try_from(deadline.as_millis()).unwrap();
        run.heard(at - 1, wal(0));
        for action in run.step(at, Event::Time) {
            assert_eq!(action, Action::LookForDatabases);
            looks.push(deadline.as_millis());
        }
    }
    looks
}

#[test]
fn t84_somebody_looks_after_a_minute_and_then_every_five() {
    let mut run = Run::running(watched());
    assert_eq!(looks(&mut run, 700_000), [60_000, 360_000, 660_000]);
    let mut run = Run::running(rules());
    assert_eq!(looks(&mut run, 700_000), [0; 0], "nobody wants to know");
    let mut run = Run::running(Rules { attach_wait: ms(60_000), ..ephemeral() });
    assert_eq!(looks(&mut run, 700_000), [0; 0], "there is nothing to compare it with");
}

#[test]
fn t84_a_stop_ends_the_looking() {
    let mut run = Run::running(watched());
    run.signal(10, Sig::TERM);
    run.ended(20, Role::App, Ended::Code(0));
    assert_eq!(run.step(20, Event::Orphans(0)), [Action::Tell(ToAgent::Drain { deadline_ms: 9_490 })]);
    assert!(run.wait(700_000).iter().all(|(_, action)| *action != Action::LookForDatabases));
    let mut run = Run::running(watched());
    run.signal(60_001, Sig::TERM);
    run.step(60_002, seen(false, &["/other.db"], true));
    assert_eq!(run.machine.view(ms(60_002)).attached, Attached::Unknown, "too late to matter");
}

/// The table of the room's head.
#[test]
fn t84_only_another_database_and_no_commit_in_ours_is_a_wrong_one() {
    let no = || Attached::No(vec!["/other.db".into()]);
    for (found, quiet, committing) in [
        (seen(true, &[], true), Attached::Yes, Attached::Yes),
        (seen(true, &["/other.db"], false), Attached::Yes, Attached::Yes),
        (seen(false, &["/other.db"], true), no(), Attached::Yes),
        (seen(false, &["/other.db"], false), Attached::Unknown, Attached::Yes),
        (seen(false, &[], true), Attached::Unknown, Attached::Yes),
        (seen(false, &[], false), Attached::Unknown, Attached::Yes),
    ] {
        for (commits, expected) in [(false, &quiet), (true, &committing)] {
            let mut run = Run::running(watched());
            // An agent that has just begun to read.
            run.heard(500, wal(0));
            run.heard(1_000, wal(4_152));
            run.heard(2_000, wal(if commits { 8_272 } else { 4_152 }));
            // A WAL that has begun anew is nobody's commit.
            run.heard(3_000, wal(32));
            run.step(60_000, found.clone());
            assert_eq!(run.machine.view(ms(60_000)).attached, *expected, "{found:?}, commits: {commits}");
        }
    }
}

#[test]
fn t84_a_wrong_database_is_named_once_until_it_is_another_or_the_right_one() {
    let mut run = Run::running(watched());
    let named = |run: &Run, what: &str| run.log.iter().filter(|line| line.contains(what)).count();
    for at in [60_000, 360_000] {
        run.step(at, seen(false, &["/root/b.db", "/root/a.db"], true));
    }
    let line = "the app has /root/a.db, /root/b.db open and not /data/x.db, which is what is replicated: nothing of \
                what it writes is; give both the same path";
    assert_eq!(named(&run, line), 1, "{:?}", run.log);
    run.step(660_000, seen(false, &["/root/c.db"], true));
    assert_eq!(named(&run, "the app has /root/c.db open and not"), 1, "{:?}", run.log);
    run.step(960_000, seen(true, &[], true));
    assert_eq!(named(&run, "the app has /data/x.db open now"), 1, "{:?}", run.log);
    let mut run = Run::running(watched());
    run.step(60_000, seen(false, &["/1", "/2", "/3", "/4", "/5"], true));
    assert_eq!(named(&run, "the app has /1, /2, /3, /4 open and not"), 1, "{:?}", run.log);
}

#[test]
fn commits_count_for_the_look_that_follows_them() {
    let mut run = Run::running(watched());
    run.step(60_000, seen(false, &["/other.db"], true));
    assert_eq!(run.machine.view(ms(60_000)).attached, Attached::No(vec!["/other.db".into()]));
    run.heard(70_000, wal(32));
    run.heard(80_000, wal(4_152));
    run.step(360_000, seen(false, &["/other.db"], true));
    assert_eq!(run.machine.view(ms(360_000)).attached, Attached::Yes);
}

#[test]
fn t84_an_app_that_had_its_database_open_once_keeps_its_requests_while_it_has_none() {
    let mut run = Run::running(watched());
    run.step(60_000, Event::Time);
    run.step(60_100, seen(true, &["/sessions.db"], true));
    run.step(60_200, seen(false, &["/sessions.db"], true));
    assert_eq!(run.machine.view(ms(60_200)).attached, Attached::Yes);
    assert_eq!(looks(&mut run, 700_000), [0; 0], "nobody looks again");
}
