//! The supervisor on a terminal: who holds its foreground, and that it comes back. Needs a terminal of `script`'s.
#![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]

use std::io::{Read, Write};
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex};

use holdfast_tests::process::command;
use holdfast_tests::programs::ours;
use holdfast_tests::supervised::{SOON, until};

/// A shell's command on a terminal of its own, what is typed and what is to be seen.
struct Terminal {
    script: Child,
    screen: Arc<Mutex<String>>,
}

impl Terminal {
    fn run(shell: &str) -> Self {
        let mut script = command("script")
            .args(["-qefc", shell, "/dev/null"])
            .env("TERM", "dumb")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut out = script.stdout.take().unwrap();
        let screen = Arc::new(Mutex::new(String::new()));
        let shown = Arc::clone(&screen);
        std::thread::spawn(move || {
            let mut piece = [0; 4096];
            while let Ok(n @ 1..) = out.read(&mut piece) {
                shown.lock().unwrap().push_str(&String::from_utf8_lossy(&piece[..n]));
            }
        });
        Self { script, screen }
    }

    fn types(&mut self, text: &str) {
        self.script.stdin.as_mut().unwrap().write_all(text.as_bytes()).unwrap();
    }

    #[track_caller]
    fn shows(&self, what: &str) {
        let seen = || self.screen.lock().unwrap().contains(what).then_some(());
        let end = std::time::Instant::now() + SOON;
        while seen().is_none() {
            assert!(
                std::time::Instant::now() < end,
                "no {what:?} on the screen:\n{}",
                self.screen.lock().unwrap()
            );
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.script.kill();
        let _ = self.script.wait();
    }
}

#[test]
fn t20_a_shell_under_us_has_its_jobs_and_the_shell_above_us_gets_the_terminal_back() {
    let supervisor = ours("holdfast-supervisor").display().to_string();
    let mut terminal = Terminal::run(&format!(
        "{supervisor} -stop-grace 10s -listen off -- bash --norc --noprofile -i; echo code $?; read line; echo \"got <$line>\""
    ));
    terminal.types("PS1='ready> '\n");
    terminal.shows("\nready> ");
    terminal.types("sleep 4321\n");
    let asleep = || {
        let ps = std::process::Command::new("pgrep").args(["-fx", "sleep 4321"]).output().unwrap();
        (!ps.stdout.is_empty()).then_some(())
    };
    until("the job runs", SOON, asleep);
    terminal.types("\x1a");
    terminal.shows("Stopped");
    terminal.types("fg\n");
    terminal.shows("fg\r\nsleep 4321");
    terminal.types("\x03");
    terminal.types("echo after $?\n");
    terminal.shows("after 130");
    terminal.types("exit 3\n");
    terminal.shows("code 3");
    // Who reads from a terminal without being in its foreground is stopped, and would never say this.
    terminal.types("back\n");
    terminal.shows("got <back>");
}
