//! All of it at once: random histories, and what is said again and again.

use super::*;

/// The longest step of the test below.
const LOOK_MS: u64 = 50;

/// Whatever happens, in any order: the run ends by itself once a stop has come, within the grace.
#[test]
fn after_a_stop_every_history_ends_within_the_grace() {
    let seed: u64 = std::env::var("SEED").ok().and_then(|s| s.parse().ok()).unwrap_or(1);
    for seed in seed..seed + 2_000 {
        let mut random = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let mut next = |below: u64| {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            random % below
        };
        let mut machine = Lifecycle::new(if seed % 5 == 0 { ephemeral() } else { rules() });
        let (mut now, mut app, mut starts) = (0, false, 0);
        let stop_at = next(20_000);
        let mut queue = vec![Event::Begin];
        let mut stopped = false;
        while machine.gone().is_none() {
            let event = queue.pop().unwrap_or_else(|| match next(12) {
                0 => Event::Heard(ready()),
                1 => {
                    Event::Heard(FromAgent::Drained(if next(2) == 0 { proof() } else { Drained::default() }))
                }
                2 => {
                    Event::Exited { role: Role::Agent, ended: Ended::Code(u8::try_from(next(100)).unwrap()) }
                }
                3 if !app => {
                    Event::Exited { role: Role::Restore, ended: Ended::Code([0, 0, 69][next(3) as usize]) }
                }
                4 if app && next(8) == 0 => Event::Exited { role: Role::App, ended: Ended::Code(0) },
                5 => Event::AgentClosed,
                6 => Event::OrphansReaped(1 + next(3)),
                7 => Event::Signal { sig: Sig::USR1, from_kernel: false },
                8 => Event::Heard(FromAgent::Status(Status::default())),
                _ => Event::Time,
            });
            if let Event::Exited { role: Role::App, .. } = event {
                app = false;
            }
            for action in machine.step(ms(now), event) {
                match action {
                    Action::StartApp => {
                        (app, starts) = (true, starts + 1);
                    }
                    Action::CountOrphans => queue.push(Event::Orphans(next(3) as usize)),
                    _ => {}
                }
            }
            now += next(LOOK_MS);
            if !stopped && now >= stop_at {
                stopped = true;
                queue.push(Event::Signal { sig: Sig::TERM, from_kernel: false });
            }
            // The last two looks at the orphans, each one step late; or the agent's farewell.
            assert!(
                now <= stop_at + 9_500 + 4 * LOOK_MS,
                "SEED={seed}: still {} at {now}",
                machine.describe(ms(now))
            );
        }
        assert!(starts <= 1, "SEED={seed}: the app was started {starts} times");
    }
}

#[test]
fn what_has_to_be_remembered_is_said_every_six_hours_while_the_app_runs() {
    let hours = |n: u64| n * 3_600_000;
    let mut run = Run::new(Rules { reminder: Some((Level::Error, "no replica".into())), ..ephemeral() });
    run.step(0, Event::Begin);
    assert_eq!(run.machine.deadline(), Some(ms(hours(6))));
    run.step(hours(6) - 1, Event::Time);
    assert!(run.log.is_empty(), "{:?}", run.log);
    run.step(hours(6), Event::Time);
    run.step(hours(12), Event::Time);
    assert_eq!(run.log, ["no replica"; 2]);
    run.signal(hours(13), Sig::TERM);
    run.step(hours(18), Event::Time);
    assert_eq!(run.log.iter().filter(|line| *line == "no replica").count(), 2, "{:?}", run.log);
    assert_eq!(Run::new(ephemeral()).machine.deadline(), None);
}
