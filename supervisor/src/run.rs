//! The loop: feeds the [`Lifecycle`] what happens and does what it answers. Touches processes, signals, the control
//! socket and the clock; decides nothing.
//!
//! One thread, one `poll`. Signals arrive on a signalfd, because a handler would have to be undone in every child.
//! What arrived together is told in this order: signals, the agent's messages, ended children, time.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use holdfast_config::lock::Lock;
use holdfast_config::systemd::Service;
use nix::errno::Errno;
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

use crate::attachment::Lookout;
use crate::cli::SignalTarget;
use crate::control::Control;
use crate::health::Wicket;
use crate::lifecycle::{Action, Ended, Event, Level, Lifecycle, Outcome, Role, Seen, View};
use crate::log::Log;
use crate::setup::Setup;
use crate::signals::Sig;
use crate::{emergency, launch, orphans, sys};

/// Blocks every signal that can wait and opens the descriptor they arrive on. Must be the first thing a process does:
/// what is not blocked yet is lost by PID 1.
pub(crate) fn catch_signals() -> io::Result<SignalFd> {
    let mut mask = SigSet::all();
    // Blocking these means nothing when the kernel raises them for a fault of our own.
    for fault in [
        Signal::SIGSEGV,
        Signal::SIGBUS,
        Signal::SIGILL,
        Signal::SIGFPE,
        Signal::SIGABRT,
        Signal::SIGSYS,
        Signal::SIGTRAP,
    ] {
        mask.remove(fault);
    }
    mask.thread_set_mask()?;
    Ok(SignalFd::with_flags(&mask, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?)
}

/// The supervisor at work.
pub(crate) struct Supervisor<'a> {
    setup: &'a Setup,
    log: &'a Log,
    signals: SignalFd,
    machine: Lifecycle,
    started: Instant,
    /// When the last wait ended.
    awake: Duration,
    restore: Option<i32>,
    agent: Option<i32>,
    app: Option<i32>,
    control: Option<Control>,
    /// Where probes ask; None if nobody may.
    wicket: Option<Arc<Wicket>>,
    /// Who looks which databases are open, once somebody has.
    lookout: Option<Lookout>,
    /// systemd, if it started us and wants to know.
    service: Option<Service>,
    /// We hold the terminal and lend it to the app.
    foreground: bool,
    /// What says that the databases are ours; the agent holds it, too.
    locks: Vec<RawFd>,
}

impl<'a> Supervisor<'a> {
    pub(crate) fn new(
        setup: &'a Setup,
        log: &'a Log,
        signals: SignalFd,
        wicket: Option<Arc<Wicket>>,
        service: Option<Service>,
        locks: &'a [Lock],
    ) -> Self {
        Self {
            setup,
            log,
            signals,
            machine: Lifecycle::new(setup.rules.clone()),
            started: Instant::now(),
            awake: Duration::ZERO,
            restore: None,
            agent: None,
            app: None,
            control: None,
            wicket,
            lookout: None,
            service,
            foreground: sys::holds_terminal(),
            locks: locks.iter().map(|lock| lock.as_fd().as_raw_fd()).collect(),
        }
    }

    /// Runs to the end and says how it was.
    pub(crate) fn run(mut self) -> Outcome {
        self.tell(Event::Begin);
        while self.machine.gone().is_none() {
            self.tell_systemd();
            self.wait();
            self.hear_signals();
            self.hear_agent();
            self.reap();
            self.hear_lookout();
            self.tell_who_asks();
            let now = self.now();
            self.mind_a_stop(now);
            if self.machine.deadline().is_some_and(|deadline| deadline <= now) {
                self.tell(Event::Time);
            }
        }
        self.machine.outcome(self.now())
    }

    fn tell_who_asks(&self) {
        if let Some(wicket) = &self.wicket {
            wicket.tell(|| View { log_dropped: self.log.dropped(), ..self.machine.view(self.now()) });
        }
    }

    fn now(&self) -> Duration {
        self.started.elapsed()
    }

    fn tell_systemd(&mut self) {
        let now = self.now();
        let Some(service) = &mut self.service else { return };
        if let Err(e) = service.tell(now, self.machine.phase(), &self.machine.status()) {
            self.log.line(Level::Debug, &format!("tell systemd: {e}"));
        }
    }

    /// Stopped between two waits: no deadline may be held against an agent that was stopped, too.
    fn mind_a_stop(&mut self, now: Duration) {
        if now > self.awake + LOST {
            self.awake = now;
            self.tell(Event::Resumed);
        }
    }

    fn wait(&mut self) {
        let before = self.now();
        self.mind_a_stop(before);
        let service = self.service.as_ref().and_then(Service::deadline);
        let deadline = [self.machine.deadline(), service].into_iter().flatten().min();
        let timeout = deadline.map(|deadline| deadline.saturating_sub(before));
        let poll_timeout = timeout.map_or(PollTimeout::NONE, |t| {
            // Rounded up: a wake-up before the deadline would only spin.
            PollTimeout::try_from(t.as_micros().div_ceil(1000)).unwrap_or(PollTimeout::MAX)
        });
        let mut ready = vec![PollFd::new(self.signals.as_fd(), PollFlags::POLLIN)];
        ready.extend(self.control.as_ref().map(|c| PollFd::new(c.as_fd(), PollFlags::POLLIN)));
        ready.extend(self.wicket.as_ref().map(|w| PollFd::new(w.as_fd(), PollFlags::POLLIN)));
        ready.extend(self.lookout.as_ref().map(|l| PollFd::new(l.as_fd(), PollFlags::POLLIN)));
        if let Err(errno) = poll(&mut ready, poll_timeout)
            && errno != Errno::EINTR
        {
            self.log.line(Level::Error, &format!("wait for events: {errno}"));
            // Without poll there is still the table of children and the clock.
            std::thread::sleep(Duration::from_millis(50));
        }
        self.awake = self.now();
        if timeout.is_some_and(|t| self.awake > before + t + LOST) {
            self.tell(Event::Resumed);
        }
    }

    fn hear_signals(&mut self) {
        // Bounded, so that a storm of signals cannot keep us from reaping.
        for _ in 0..MAX_SIGNALS {
            match self.signals.read_signal() {
                Ok(Some(info)) => {
                    let sig = Sig::new(info.ssi_signo.cast_signed());
                    let from_kernel = info.ssi_code == libc::SI_KERNEL;
                    self.tell(Event::Signal { sig, from_kernel });
                }
                Ok(None) => break,
                Err(Errno::EINTR) => {}
                Err(errno) => return self.log.line(Level::Error, &format!("read signals: {errno}")),
            }
        }
    }

    fn hear_agent(&mut self) {
        let Some(control) = &mut self.control else { return };
        let arrived = control.read();
        if arrived.closed {
            self.control = None;
        }
        for line in arrived.unknown {
            self.log.line(Level::Warn, &format!("agent says something unknown: {line}"));
        }
        for message in arrived.messages {
            self.tell(Event::Heard(message));
        }
        if arrived.closed {
            self.tell(Event::AgentClosed);
        }
    }

    fn hear_lookout(&mut self) {
        let agent = self.agent;
        if let Some(seen) = self.lookout.as_mut().and_then(|lookout| lookout.take(agent)) {
            self.tell(Event::Looked(seen));
        }
    }

    /// One look at a time: a thread that waits for a file for ever is the only one that does.
    fn look_for_databases(&mut self) -> Option<Event> {
        let agent = self.setup.agent.as_ref()?;
        let lookout = match &mut self.lookout {
            Some(lookout) => Ok(lookout),
            none => Lookout::new().map(|new| none.insert(new)),
        };
        match lookout.and_then(|lookout| lookout.begin(self.agent, &agent.databases)) {
            Ok(true) => None,
            Ok(false) => Some(Event::Looked(Seen::default())),
            Err(e) => {
                self.log.line(Level::Warn, &format!("look which databases are open: {e}"));
                Some(Event::Looked(Seen::default()))
            }
        }
    }

    /// Takes every ended child off the table: one SIGCHLD may stand for many.
    fn reap(&mut self) {
        let mut orphans = 0;
        while let Some((pid, ended)) = sys::reap() {
            let role = match Some(pid) {
                pid if pid == self.app => Role::App,
                pid if pid == self.agent => Role::Agent,
                pid if pid == self.restore => Role::Restore,
                _ => {
                    orphans += 1;
                    continue;
                }
            };
            self.ended(role, ended);
        }
        if orphans > 0 {
            self.tell(Event::OrphansReaped(orphans));
        }
    }

    fn ended(&mut self, role: Role, ended: Ended) {
        match role {
            Role::App => {
                self.app = None;
                if self.foreground {
                    sys::take_terminal_back();
                }
            }
            Role::Agent => {
                // Its last words come before its end.
                self.hear_agent();
                self.agent = None;
                self.control = None;
            }
            Role::Restore => self.restore = None,
        }
        self.tell(Event::Exited { role, ended });
    }

    fn tell(&mut self, event: Event) {
        let mut events = VecDeque::from([event]);
        self.leave_word();
        while let Some(event) = events.pop_front() {
            for action in self.machine.step(self.now(), event) {
                events.extend(self.perform(action));
                self.leave_word();
            }
        }
    }

    /// Who has to be stopped if this loop breaks.
    fn leave_word(&self) {
        emergency::remember(self.app, self.agent, self.control.as_ref().map(|c| c.as_fd().as_raw_fd()));
    }

    /// Does one thing; what came of it, if the machine must know at once.
    fn perform(&mut self, action: Action) -> Option<Event> {
        match action {
            Action::Log(level, line) => self.log.line(level, &line),
            Action::Report => self.log.line(Level::Info, &self.machine.describe(self.now())),
            Action::Restore(database) => return self.start_restore(database).err(),
            Action::StartAgent => return self.start_agent().err(),
            Action::StartApp => return self.start_app().err(),
            Action::SignalRestore(sig) => self.signal("restore", self.restore, sig),
            Action::SignalApp(sig) => self.signal_app(sig),
            Action::KillAgent => self.signal("agent", self.agent, Sig::KILL),
            Action::KillApp => {
                if let Some(Err(e)) = self.app.map(|pid| sys::kill_group(pid, Sig::KILL)) {
                    self.log.line(Level::Error, &format!("kill the app's group: {e}"));
                }
            }
            Action::Tell(message) => {
                if let Some(Err(e)) = self.control.as_mut().map(|control| control.tell(&message)) {
                    self.log.line(Level::Error, &format!("tell the agent {message:?}: {e}"));
                }
            }
            Action::CountOrphans => return Some(Event::Orphans(self.orphans().len())),
            Action::SignalOrphans(sig) => self.signal_orphans(sig),
            Action::LookForDatabases => return self.look_for_databases(),
        }
        None
    }

    fn signal_app(&self, sig: Sig) {
        match (self.setup.signal_target, self.app) {
            (SignalTarget::Group, Some(pid)) => {
                if let Err(e) = sys::kill_group(pid, sig) {
                    self.log.line(Level::Error, &format!("send {sig} to the app's group: {e}"));
                }
            }
            (SignalTarget::App | SignalTarget::Group, pid) => self.signal("app", pid, sig),
        }
    }

    fn signal(&self, whom: &str, pid: Option<i32>, sig: Sig) {
        if let Some(Err(e)) = pid.map(|pid| sys::kill(pid, sig)) {
            self.log.line(Level::Error, &format!("send {sig} to the {whom}: {e}"));
        }
    }

    fn orphans(&self) -> Vec<orphans::Process> {
        orphans::left(std::process::id().cast_signed(), self.agent).unwrap_or_else(|e| {
            self.log.line(Level::Error, &format!("list processes in /proc: {e}"));
            Vec::new()
        })
    }

    fn signal_orphans(&self, sig: Sig) {
        let left = self.orphans();
        let names: Vec<_> = left.iter().take(8).map(|p| format!("{} ({})", p.name, p.pid)).collect();
        let more = if left.len() > names.len() { ", …" } else { "" };
        self.log.line(Level::Warn, &format!("left behind by the app: {}{more}: {sig}", names.join(", ")));
        for process in left {
            self.signal("process left behind", Some(process.pid), sig);
            // A stopped process takes SIGTERM only when it goes on.
            self.signal("process left behind", Some(process.pid), Sig::CONT);
        }
    }

    fn start_restore(&mut self, database: usize) -> Result<(), Event> {
        let path = self.setup.agent.as_ref().and_then(|agent| agent.databases.get(database));
        if let Some(path) = path {
            self.log.line(Level::Info, &format!("looking at {} and its replica", path.display()));
        }
        self.restore = Some(launch::restore(self.setup, database, &self.locks)?);
        Ok(())
    }

    fn start_agent(&mut self) -> Result<(), Event> {
        let (pid, control) = launch::agent(self.setup, &self.locks)?;
        (self.agent, self.control) = (Some(pid), Some(control));
        Ok(())
    }

    fn start_app(&mut self) -> Result<(), Event> {
        self.app = Some(launch::app(self.setup, self.foreground)?);
        let program = self.setup.command.first().map(|program| program.display().to_string());
        self.log.line(Level::Info, &format!("app started: {}", program.unwrap_or_default()));
        Ok(())
    }
}

/// A wait this much longer than asked for means that nothing in this container ran.
const LOST: Duration = Duration::from_secs(1);
const MAX_SIGNALS: usize = 128;
