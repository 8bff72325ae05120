//! Every signal in every state: spec/supervisor.md §2.3 as a table, held against the machine.

use super::*;
use nix::libc;

/// A run that stands in `stage`, its agent ready if there is one by then.
fn standing_in(stage: &str) -> Run {
    match stage {
        "restore" => {
            let mut run = Run::new(rules());
            run.step(0, Event::Begin);
            run
        }
        "wait" => {
            let mut run = standing_in("restore");
            run.ended(0, Role::Restore, Ended::Code(69));
            run
        }
        "attach" => {
            let mut run = standing_in("restore");
            run.ended(0, Role::Restore, Ended::Code(0));
            run
        }
        "abort" => {
            let mut run = standing_in("attach");
            run.signal(0, Sig::TERM);
            run
        }
        "run" => Run::running(rules()),
        "stop" => {
            let mut run = Run::running(rules());
            run.signal(0, Sig::TERM);
            run
        }
        "killed" => {
            let mut run = standing_in("stop");
            run.wait(5_000);
            run
        }
        "orphans" => {
            let mut run = Run::running(rules());
            run.ended(0, Role::App, Ended::Code(0));
            run
        }
        "drain" => Run::draining(rules(), 0),
        "drain+" => {
            let mut run = standing_in("stop");
            run.ended(1, Role::App, Ended::Code(0));
            run.step(1, Event::Orphans(0));
            run
        }
        "leave" => {
            let mut run = Run::draining(rules(), 0);
            run.heard(1, FromAgent::Drained(proof()));
            run
        }
        "gone" => {
            let mut run = standing_in("leave");
            run.ended(2, Role::Agent, Ended::Code(0));
            run
        }
        unknown => panic!("no stage {unknown}"),
    }
}

/// What `sig` does in `stage`, in the table's words.
fn does(stage: &str, sig: Sig, from_kernel: bool) -> &'static str {
    let mut run = standing_in(stage);
    let before = (run.machine.stop.t0(), run.code());
    // Late enough to be no echo, before every deadline.
    let actions = run.step(5_100, Event::Signal { sig, from_kernel });
    let told = if from_kernel { Sig::TERM } else { sig };
    let asks = [Action::SignalRestore(Sig::TERM), Action::Tell(ToAgent::Exit {})];
    match actions.as_slice() {
        [] if run.code() != before.1 => {
            assert_eq!(run.code(), Some(told.exit_code()), "{sig} in {stage}");
            "ends"
        }
        [] if run.machine.stop.t0() != before.0 => "clock",
        [] if run.log.iter().any(|line| line.contains("press again")) => "warns",
        [] => "-",
        [one] if asks.contains(one) => {
            // However long the child takes: it ends with 128 + n.
            run.wait(60_000);
            assert_eq!(run.code(), Some(told.exit_code()), "{sig} in {stage}");
            "asks"
        }
        [Action::SignalApp(to)] if *to == told => "app",
        [Action::SignalApp(to), Action::Tell(ToAgent::Flush {})] if *to == told => "stops",
        [Action::Tell(ToAgent::Flush {})] => "flush",
        [Action::Tell(ToAgent::Reload {})] => "reload",
        [Action::Report] => "report",
        other => panic!("{sig} in {stage}: {other:?}"),
    }
}

/// `asks`: the child at work is asked to end, then 128 + n. `ends`: 128 + n at once. `stops`: the app gets it, the agent
/// uploads, the clock starts. `app`: the app gets it. `clock`: the time for the final sync starts. `warns`: once more
/// gives the backup up.
const TABLE: &str = "
            restore wait attach abort run    stop   killed orphans drain drain+ leave gone
stop        asks    ends asks   -     stops  app    -      clock   clock -      -     -
SIGINT      asks    ends asks   -     stops  app    -      clock   clock warns  -     -
SIGQUIT     asks    ends asks   -     app    app    app    -       -     -      -     -
SIGHUP      -       -    -      -     reload reload reload -       -     -      -     -
SIGUSR1     -       -    -      -     flush  flush  flush  -       -     -      -     -
SIGUSR2     report  report report report report report report report report report report report
SIGCHLD     -       -    -      -     -      -      -      -       -     -      -     -
ignored     -       -    -      -     -      -      -      -       -     -      -     -
forwarded   -       -    -      -     app    app    app    -       -     -      -     -
";

/// The row of a signal. KILL and STOP reach no process's own code, and 32 and 33 are the C library's.
fn row(number: i32) -> Option<&'static str> {
    Some(match number {
        libc::SIGKILL | libc::SIGSTOP | 32 | 33 => return None,
        libc::SIGTERM | libc::SIGPWR => "stop",
        n if n == libc::SIGRTMIN() + 3 => "stop",
        libc::SIGINT => "SIGINT",
        libc::SIGQUIT => "SIGQUIT",
        libc::SIGHUP => "SIGHUP",
        libc::SIGUSR1 => "SIGUSR1",
        libc::SIGUSR2 => "SIGUSR2",
        libc::SIGCHLD => "SIGCHLD",
        libc::SIGTSTP | libc::SIGTTIN | libc::SIGTTOU | libc::SIGPIPE => "ignored",
        _ => "forwarded",
    })
}

#[test]
fn t12_every_signal_in_every_state_does_what_the_table_says() {
    let mut lines = TABLE.lines().filter(|line| !line.is_empty());
    let stages: Vec<_> = lines.next().unwrap().split_whitespace().collect();
    let rows: Vec<Vec<_>> = lines.map(|line| line.split_whitespace().collect()).collect();
    let mut seen = 0;
    for number in 1..=libc::SIGRTMAX() {
        let Some(name) = row(number) else { continue };
        let expected = rows.iter().find(|row| row[0] == name).unwrap();
        for (stage, word) in stages.iter().zip(&expected[1..]) {
            assert_eq!(does(stage, Sig::new(number), false), *word, "{} in {stage}", Sig::new(number));
            seen += 1;
        }
    }
    assert_eq!(seen, 60 * 12);
}

#[test]
fn t12_a_terminal_that_goes_away_is_a_stop_in_every_state() {
    let stages = "restore wait attach abort run stop killed orphans drain drain+ leave gone".split(' ');
    for stage in stages {
        assert_eq!(does(stage, Sig::HUP, true), does(stage, Sig::TERM, false), "{stage}");
    }
}

#[test]
fn t12_a_map_gives_the_app_what_it_wants_and_a_stop_stays_one() {
    let mapped = |map: &str| Rules { signals: map.parse().unwrap(), ..rules() };
    let mut run = Run::running(mapped("TERM=QUIT,USR2=forward,HUP=USR1,WINCH=ignore"));
    assert_eq!(run.signal(0, Sig::USR2), [Action::SignalApp(Sig::USR2)]);
    assert_eq!(run.signal(0, Sig::HUP), [Action::SignalApp(Sig::USR1)]);
    assert_eq!(run.signal(0, Sig::new(libc::SIGWINCH)), []);
    assert_eq!(run.signal(0, Sig::TERM), [Action::SignalApp(Sig::QUIT), Action::Tell(ToAgent::Flush {})]);
    assert_eq!(run.signal(1_000, Sig::TERM), [Action::SignalApp(Sig::QUIT)]);
    // The app ends by the signal it was sent: that is no failure of its own.
    run.ended(1_001, Role::App, Ended::Signal(Sig::QUIT));
    run.step(1_001, Event::Orphans(0));
    run.wait(60_000);
    assert_eq!(run.code(), Some(74), "the sync failed, the app did not");
    // Before there is an app, TERM is TERM.
    let mut run = Run::new(mapped("TERM=QUIT"));
    run.step(0, Event::Begin);
    run.signal(0, Sig::TERM);
    run.wait(1_000);
    assert_eq!(run.code(), Some(143));
}
